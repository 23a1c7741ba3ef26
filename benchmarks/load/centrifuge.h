/* Part of load.c: subscribers that speak the Centrifuge protocol (JSON, version 2). */

#define TEXT_SIZE 65536

static void say_hello(struct connection *c)
{
    static const char hello[] = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"foo\"}}";
    unsigned char frame[sizeof hello + 14];
    size_t n = put_frame(frame, 0x80 | TEXT, (const unsigned char *)hello, sizeof hello - 1, c->mask);
    c->text = need(malloc(1));
    if (write_some(c, frame, n) != (ssize_t)n)
        die("the first commands weren't taken");
}

static void keep_text(struct connection *c, const unsigned char *from, size_t size)
{
    if (c->text_length + size > TEXT_SIZE)
        die("more than %d bytes in a message", TEXT_SIZE);
    c->text = need(realloc(c->text, c->text_length + size + 1));
    memcpy(c->text + c->text_length, from, size);
    c->text_length += size;
    c->text[c->text_length] = 0;
}

static int begins(const char *line, const char *with)
{
    return !strncmp(line, with, strlen(with));
}

/* A publication: what was published must stand in it as it is. */
static void take_publication(struct connection *c, const char *line)
{
    static char wanted[2048];
    uint32_t number = number_of(c), mark = stamp(number);
    if (options.mode != FANOUT || number >= publisher->sent)
        die("a message that nobody asked for: %.200s", line);
    memcpy(wanted, &mark, 4);
    memcpy(wanted + 4, expected + 4, options.size - 4);
    if (!strstr(line, wanted))
        die("not message %u: %.200s", number, line);
    if (measuring) {
        messages++;
        record(now - publisher->sent_at[number % slots]);
    }
    reached(number);
    c->received++;
}

static void take_lines(struct connection *c)
{
    c->text[c->text_length] = 0;
    for (char *line = c->text, *end; line; line = end ? end + 1 : NULL) {
        if ((end = strchr(line, '\n')))
            *end = 0;
        if (begins(line, "{\"push\":{\"channel\":\"foo\",\"pub\":"))
            take_publication(c, line);
        else if (!strcmp(line, "{}"))
            c->pong_length = put_frame(c->pong, 0x80 | TEXT, (const unsigned char *)"{}", 2, c->mask);
        else if (begins(line, "{\"id\":2,\"subscribe\":")) {
            open_count++;
            opening--;
        } else if (!begins(line, "{\"id\":1,\"connect\":"))
            die("unexpected: %.200s", line);
    }
}
