/* Part of load.c: subscribers and a publisher that use the Centrifuge protocol, version 2. */

#define FIRST_ID 1000000000u /* of publish commands: all have the same number of digits */

static struct {
    unsigned char text[4096]; /* a publish command */
    size_t length, id, publication;
} command;

static int subscribes(const struct connection *c)
{
    return c != publisher || options.mode == PUBLISH_BACK;
}

static uint64_t publications, json_pings; /* of idle subscribers */

/* Two commands: `connect` and `subscribe`, each behind its length. The numbers of the fields are those of
   `client.proto`. */
static void say_hello_in_protobuf(struct connection *c)
{
    unsigned char text[128], frame[sizeof text + 14];
    size_t channel = strlen(options.channel);
    if (options.token || channel > 64)
        die("--protobuf needs a channel of at most 64 characters, and no token");
    int n = snprintf((char *)text, sizeof text, "\x04\x08\x01\x22%c%c\x08\x02\x2a%c\x0a%c%s", 0, (int)channel + 6,
                     (int)channel + 2, (int)channel, options.channel);
    size_t length = put_frame(frame, 0x80 | BINARY, text, (size_t)n, c->mask);
    c->text = need(malloc(1));
    if (write_some(c, frame, length) != (ssize_t)length)
        die("the first commands were not sent");
}

static void say_hello(struct connection *c)
{
    static char hello[8192];
    static unsigned char frame[sizeof hello + 14];
    if (speaks_protobuf(c)) {
        say_hello_in_protobuf(c);
        return;
    }
    int all = snprintf(hello, sizeof hello, "{\"id\":1,\"connect\":{%s%s%s}}\n{\"id\":2,\"subscribe\":{\"channel\":\"%s\"}}",
                       options.token ? "\"token\":\"" : "", options.token ? options.token : "",
                       options.token ? "\"" : "", options.channel);
    if (all >= (int)sizeof hello)
        die("the token is too long");
    size_t size = subscribes(c) ? (size_t)all : strcspn(hello, "\n");
    size_t n = put_frame(frame, 0x80 | TEXT, (const unsigned char *)hello, size, c->mask);
    c->text = need(malloc(1));
    if (write_some(c, frame, n) != (ssize_t)n)
        die("the first commands were not sent");
}

/* Prepare the frames of a publisher: as many as it has in flight. */
static void make_commands(struct connection *c)
{
    char *text = (char *)command.text;
    unsigned char header[14];
    command.id = (size_t)sprintf(text, "{\"id\":");
    command.publication = command.id + (size_t)sprintf(text + command.id, "%u,\"publish\":", FIRST_ID);
    command.length = command.publication + put_publication(text + command.publication);
    command.length += (size_t)sprintf(text + command.length, "}");
    stamp_at = put_header(header, 0, command.length, 0);
    frame_length = stamp_at + command.length;
    c->sent_at = need(calloc(slots, sizeof *c->sent_at));
    c->out = need(malloc((unsigned)options.in_flight * frame_length));
    for (int i = 0; i < options.in_flight; i++)
        put_frame(c->out + (unsigned)i * frame_length, 0x80 | TEXT, command.text, command.length, c->mask);
}

static void apply_mask(unsigned char *payload, size_t at, size_t size, uint32_t mask)
{
    for (size_t end = at + size; at < end; at++)
        payload[at] ^= ((unsigned char *)&mask)[at % 4];
}

/* Number a masked publish command. */
static void number_command(struct connection *c, unsigned char *payload)
{
    put_digits(payload + command.id, FIRST_ID + c->sent, 10);
    number_publication(payload + command.publication);
    apply_mask(payload, command.id, 10, c->mask);
    apply_mask(payload, command.publication + within.stamp, 4, c->mask);
}

static void subscribed_or_connected(struct connection *c)
{
    open_count++;
    opening--;
    if (c == publisher)
        make_commands(c);
    if (options.mode == CONNECT) {
        messages++;
        record(now - c->began);
    }
}

/* Check a publication: it contains what was published, in the order of publishing. */
static void take_publication(struct connection *c, const char *line, size_t size)
{
    static char wanted[2048];
    uint32_t number = number_of(c), mark = stamp(number);
    if (options.mode == IDLE) {
        publications++;
        return;
    }
    if (!publisher || number >= publisher->sent)
        die("unexpected message: %.200s", line);
    memcpy(wanted, &mark, 4);
    memcpy(wanted + 4, expected + 4, options.size - 4);
    if (!memmem(line, size, wanted, options.size))
        die("not message %u: %.200s", number, line);
    if (measuring && options.mode != CENTRIFUGE_PUBLISH) {
        messages++;
        record(now - publisher->sent_at[number % slots]);
    }
    if (options.mode == FANOUT)
        reached(number);
    c->received++;
    if (options.mode == PUBLISH_BACK)
        publish_later();
}

/* Check the reply to a publish command: replies come in the order of the commands. */
static void take_reply(struct connection *c, const char *line)
{
    char wanted[64];
    sprintf(wanted, "{\"id\":%u,\"publish\":{", FIRST_ID + c->replied);
    if (c != publisher || c->replied == c->sent || !begins(line, wanted))
        die("unexpected: %.200s", line);
    if (options.mode == CENTRIFUGE_PUBLISH) {
        if (measuring) {
            messages++;
            record(now - c->sent_at[c->replied % slots]);
        }
        c->owed++;
    }
    c->replied++;
}

static void take_lines(struct connection *c)
{
    static char push[600];
    if (!*push)
        snprintf(push, sizeof push, "{\"push\":{\"channel\":\"%s\",\"pub\":", options.channel);
    c->text[c->text_length] = 0;
    for (char *line = c->text, *end; line; line = end ? end + 1 : NULL) {
        if ((end = strchr(line, '\n')))
            *end = 0;
        if (begins(line, push))
            take_publication(c, line, strlen(line));
        else if (!strcmp(line, "{}")) {
            json_pings++;
            c->pong_length = put_frame(c->pong, 0x80 | TEXT, (const unsigned char *)"{}", 2, c->mask);
        } else if (begins(line, "{\"id\":1,\"connect\":{")) {
            if (!subscribes(c))
                subscribed_or_connected(c);
        } else if (begins(line, "{\"id\":2,\"subscribe\":{"))
            subscribed_or_connected(c);
        else
            take_reply(c, line);
    }
}

static void take_protobuf(struct connection *c)
{
    const unsigned char *at = (const unsigned char *)c->text, *end = at + c->text_length;
    while (at < end) {
        size_t size = 0;
        for (int shift = 0; at < end; shift += 7) {
            size |= (size_t)(*at & 0x7f) << shift;
            if (*at++ < 0x80)
                break;
        }
        if (size > (size_t)(end - at))
            die("a reply is longer than its frame");
        if (size && *at == 0x22) /* field 4 of `Reply`: a push */
            take_publication(c, (const char *)at, size);
        else if (!size) {
            json_pings++;
            c->pong_length = put_frame(c->pong, 0x80 | BINARY, (const unsigned char *)"", 1, c->mask);
        } else if (size > 2 && at[0] == 0x08 && at[1] == 2 && at[2] == 0x32) /* field 6: the result of `subscribe` */
            subscribed_or_connected(c);
        else if (size <= 2 || at[0] != 0x08 || at[1] != 1 || at[2] != 0x2a)
            die("unexpected reply of %zu bytes", size);
        at += size;
    }
}

/* Return whether the publisher has received all replies, and the subscriber all publications. */
static int all_seen(void)
{
    return publisher->replied == publisher->sent && connections[0].received == publisher->sent;
}
