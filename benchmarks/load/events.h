/* Part of load.c: subscribers that read an event stream (server-sent events) instead of a WebSocket connection. */

static int reads_events(const struct connection *c)
{
    return options.sse && c != publisher;
}

static void make_event_request(const char *path)
{
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n",
             path, options.port);
}

/* Check the data of an event: it is what was published, in the order of publishing. */
static void take_data(struct connection *c, const char *data, size_t size)
{
    uint32_t number = number_of(c), mark = stamp(number);
    if (c->in_message || number >= publisher->sent)
        die("unexpected data: %.*s", (int)size, data);
    if (size != options.size || memcmp(data, &mark, 4) || memcmp(data + 4, expected + 4, size - 4))
        die("not message %u: %.*s", number, (int)size, data);
    c->in_message = 1;
}

static void event_ends(struct connection *c)
{
    if (!c->in_message)
        return;
    c->in_message = 0;
    if (measuring) {
        messages++;
        record(now - publisher->sent_at[number_of(c) % slots]);
    }
    reached(number_of(c));
    c->received++;
}

static void take_event_line(struct connection *c, const char *line, size_t size)
{
    if (size == 0)
        event_ends(c);
    else if (size > 6 && !memcmp(line, "data: ", 6))
        take_data(c, line + 6, size - 6);
    else if (line[0] != ':' && !begins(line, "id:") && !begins(line, "retry:"))
        die("unexpected line in the event stream: %.*s", (int)size, line);
}

/* Take a part of the stream; an incomplete line is kept until its end arrives. */
static void take_event_text(struct connection *c, const unsigned char *from, size_t size)
{
    keep_text(c, from, size);
    char *line = c->text, *end;
    size_t left = c->text_length;
    for (; (end = memchr(line, '\n', left)); line = end + 1) {
        take_event_line(c, line, (size_t)(end - line));
        left -= (size_t)(end + 1 - line);
    }
    memmove(c->text, line, left);
    c->text_length = left;
}

/* Take the body of the response: the stream in chunks (RFC 9112 section 7.1). */
static void take_chunks(struct connection *c, const unsigned char *from, size_t size)
{
    for (; size; size--, from++) {
        if (c->left) {
            size_t part = size < c->left ? size : c->left;
            take_event_text(c, from, part);
            c->left -= part;
            from += part - 1;
            size -= part - 1;
            continue;
        }
        if (c->header_have == sizeof c->header)
            die("the size of a chunk is too long");
        c->header[c->header_have++] = *from;
        if (*from != '\n')
            continue;
        c->left = strtoul((char *)c->header, NULL, 16);
        if (c->left == 0 && c->header_have > 2) /* an empty line ends the chunk before */
            die("the server ended the event stream");
        memset(c->header, 0, sizeof c->header);
        c->header_have = 0;
    }
}

/* The head of the response has arrived: check it. */
static void events_opened(struct connection *c)
{
    if (strncmp(c->head, "HTTP/1.1 200 ", 13))
        die("refused: %.*s", (int)strcspn(c->head, "\r\n"), c->head);
    if (!strcasestr(c->head, "\r\nContent-Type: text/event-stream"))
        die("the response is no event stream: %.500s", c->head);
    if (!strcasestr(c->head, "\r\nTransfer-Encoding: chunked"))
        die("the event stream is not sent in chunks: %.500s", c->head);
    c->state = OPEN;
    c->take = take_chunks;
    open_count++;
    opening--;
}
