/* Part of load.c: HTTP clients that publish through the API, one request in flight on each connection. */

#define BATCH 100

static struct {
    size_t first, stride; /* where the first publication begins, and how far the next one is */
    unsigned count;       /* publications in a request */
} in_request;

static size_t put_body(char *to)
{
    size_t n = 0;
    in_request.count = options.mode == API_BATCH ? BATCH : 1;
    if (options.mode == API_PUBLISH)
        return put_publication(to);
    n = (size_t)sprintf(to, "{\"commands\":[");
    for (unsigned i = 0; i < BATCH; i++) {
        size_t from = n;
        n += (size_t)sprintf(to + n, "{\"publish\":");
        if (i == 0)
            in_request.first = n;
        n += put_publication(to + n);
        n += (size_t)sprintf(to + n, i < BATCH - 1 ? "}," : "}]}");
        if (i == 0)
            in_request.stride = n - from;
    }
    return n;
}

/* Number the publications of the request in `c->out`; return its length. */
static size_t fill_request(struct connection *c)
{
    unsigned char *at = c->out + in_request.first;
    for (unsigned i = 0; i < in_request.count; i++, at += in_request.stride)
        number_publication(at);
    return frame_length;
}

/* Join the chunks of a body in place (RFC 9112 section 7.1). Returns its length, or -1 if it is incomplete. */
static ssize_t join_chunks(char *body, const char *end)
{
    char *from = body, *to = body;
    for (;;) {
        char *rest;
        unsigned long size = strtoul(from, &rest, 16);
        if (rest + 2 > end || rest + 4 + size > end)
            return -1;
        if (size == 0)
            return to - body;
        memmove(to, rest + 2, size);
        to += size;
        from = rest + 4 + size;
    }
}

/* Find the body of the response in `c->text` and terminate it with NUL. Returns NULL if it is incomplete. */
static char *find_body(struct connection *c)
{
    char *head = c->text, *end = strstr(head, "\r\n\r\n");
    if (!end)
        return NULL;
    char *body = end + 4;
    ssize_t have = c->text + c->text_length - body, length = -1;
    for (char *line = strchr(head, '\n') + 1; line < end; line = strchr(line, '\n') + 1)
        if (!strncasecmp(line, "Content-Length:", 15)) {
            length = atol(line + 15);
            if (have > length)
                die("%zd bytes more than Content-Length: %.300s", have - length, head);
        } else if (!strncasecmp(line, "Transfer-Encoding: chunked", 26)) {
            char copy[TEXT_SIZE + 1]; /* joining changes the text, which may be incomplete */
            memcpy(copy, body, (size_t)have + 1);
            length = join_chunks(copy, copy + have);
            if (length < 0)
                return NULL;
            memcpy(body, copy, (size_t)length);
            have = length;
        }
    if (length < 0)
        die("response without a length: %.300s", head);
    if (have < length)
        return NULL;
    body[length] = 0;
    return body;
}

/* Check that every publication of a request has a result. */
static void check_results(const char *body)
{
    unsigned found = 0;
    if (options.mode == API_PUBLISH)
        found = (unsigned)begins(body, "{\"result\":{");
    else
        for (const char *at = body; (at = strstr(at, "{\"publish\":{")); at++)
            found++;
    if (found != in_request.count || strstr(body, "\"error\""))
        die("%u of %u publications have a result: %.300s", found, in_request.count, body);
}

static void take_response(struct connection *c, const unsigned char *from, size_t size)
{
    keep_text(c, from, size);
    if (c->text_length >= 13 && !begins(c->text, "HTTP/1.1 200 "))
        die("the API refused: %.500s", c->text);
    const char *body = find_body(c);
    if (!body)
        return;
    check_results(body);
    if (measuring) {
        messages += in_request.count;
        record(now - c->sent_at[c->received % slots]);
    }
    c->text_length = 0;
    c->received++;
    c->owed++;
}

/* The TCP connection is established: prepare its request. */
static void open_api(struct connection *c)
{
    char *body = need(malloc(BATCH * (options.size + 100)));
    in_request.first = 0;
    size_t length = put_body(body);
    c->state = OPEN;
    c->take = take_response;
    want_out(c, 0);
    c->out = need(malloc(length + 1000));
    size_t head = (size_t)sprintf((char *)c->out,
                                  "POST %.500s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-API-Key: %.100s\r\n"
                                  "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                                  options.path, options.port, options.api_key, length);
    memcpy(c->out + head, body, length);
    free(body);
    in_request.first += head;
    frame_length = head + length;
    c->sent_at = need(calloc(slots, sizeof *c->sent_at));
    open_count++;
    opening--;
}
