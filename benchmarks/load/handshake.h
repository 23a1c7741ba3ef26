/* Part of load.c: the opening handshake. */

static void opened(struct connection *c)
{
    c->state = OPEN;
    c->take = c == publisher && !options.centrifuge ? take_anything : take_frames;
    c->mask = (uint32_t)rand() | 0x01010101u;
    if (options.centrifuge) {
        say_hello(c); /* it counts as open when it is connected and, as a subscriber, subscribed */
        return;
    }
    open_count++;
    opening--;
    if (options.mode == CONNECT) {
        messages++;
        record(now - c->began);
    }
    if (options.mode == HANDSHAKES || options.mode == IDLE || options.mode == CONNECT || c->hostile)
        return;
    if (options.mode == FANOUT && c != publisher)
        return;
    c->sent_at = need(calloc(slots, sizeof *c->sent_at));
    if (options.mode == COMPRESSED) {
        c->out = need(malloc((unsigned)options.in_flight * sizeof variants[0].frame));
        /* Only every tenth connection decompresses its replies, or the load generator would be the bottleneck. */
        if ((c - connections) % 10 == 0) {
            c->inflater = need(calloc(1, sizeof *c->inflater));
            inflateInit2(c->inflater, -15);
        }
        return;
    }
    c->out = need(malloc((unsigned)options.in_flight * frame_length));
    for (int i = 0; i < options.in_flight; i++)
        put_frame(c->out + (unsigned)i * frame_length, 0x80 | opcode, expected, options.size, c->mask);
}

static void read_extensions(struct connection *c)
{
    const char *line = strcasestr(c->head, "\r\nSec-WebSocket-Extensions:");
    if (options.mode != COMPRESSED) {
        if (line)
            die("the server agreed to an extension in a row without compression");
        return;
    }
    if (!line || !strcasestr(line, "permessage-deflate"))
        die("the server does not agree to permessage-deflate");
    const char *bits = strcasestr(line, "client_max_window_bits=");
    if (bits && atoi(bits + 23) < 11)
        die("the server asks for a window smaller than a message");
    c->fresh_window = strcasestr(line, "server_no_context_takeover") != NULL;
}

static void read_head(struct connection *c)
{
    ssize_t n = read_some(c, c->head + c->head_length, HEAD_SIZE - 1 - c->head_length);
    if (n < 0)
        return;
    if (n == 0)
        die("connection ended during the opening handshake");
    c->head_length += (size_t)n;
    c->head[c->head_length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (c->head_length == HEAD_SIZE - 1)
            die("the response head is too long");
        return;
    }
    if (reads_events(c)) {
        events_opened(c);
        take_chunks(c, (unsigned char *)end + 4, c->head_length - (size_t)(end + 4 - c->head));
        free(c->head);
        c->head = NULL;
        return;
    }
    if (strncmp(c->head, "HTTP/1.1 101 ", 13))
        die("refused: %.*s", (int)strcspn(c->head, "\r\n"), c->head);
    if (!strstr(c->head, accept_value))
        die("wrong Sec-WebSocket-Accept");
    read_extensions(c);
    now = clock_now();
    if (options.mode == HANDSHAKES && measuring) {
        messages++;
        record(now - c->began);
    }
    opened(c);
    take_frames(c, (unsigned char *)end + 4, c->head_length - (size_t)(end + 4 - c->head));
    free(c->head);
    c->head = NULL;
    if (options.mode == HANDSHAKES) {
        hang_up(c);
        dial(c);
    }
}

/* Send the server's name, and check that its certificate is valid for it (RFC 6066 section 3, RFC 9525). */
static void verify_server(SSL *tls)
{
    unsigned char number[sizeof(struct in6_addr)];
    int is_address = inet_pton(AF_INET, options.verify, number) == 1 || inet_pton(AF_INET6, options.verify, number) == 1;
    SSL_set_verify(tls, SSL_VERIFY_PEER, NULL);
    if (is_address ? !X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), options.verify)
                   : !SSL_set_tlsext_host_name(tls, options.verify) || !SSL_set1_host(tls, options.verify))
        die("OpenSSL does not take the name %s", options.verify);
}

static void __attribute__((noreturn)) die_of_tls(const SSL *tls)
{
    long problem = SSL_get_verify_result(tls);
    if (problem != X509_V_OK)
        die("TLS: %s", X509_verify_cert_error_string(problem));
    unsigned long error = ERR_get_error();
    die("TLS handshake failed: %s", error ? ERR_reason_error_string(error) : "the connection ended");
}

static void go_on_opening(struct connection *c)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (c->state == CONNECTING) {
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error)
            die("connect: %s", strerror(error));
        c->state = OPENING;
        if (options.tls) {
            c->state = SECURING;
            c->tls = need(SSL_new(tls_context));
            SSL_set_fd(c->tls, c->fd);
            if (options.verify)
                verify_server(c->tls);
            SSL_set_connect_state(c->tls);
        }
    }
    if (c->state == SECURING) {
        int outcome = SSL_do_handshake(c->tls);
        if (outcome != 1) {
            if (moved(c, outcome) == 0)
                die_of_tls(c->tls);
            want_out(c, SSL_get_error(c->tls, outcome) == SSL_ERROR_WANT_WRITE);
            return;
        }
        c->state = OPENING;
    }
    if (is_api()) {
        open_api(c);
        return;
    }
    if (!c->head) {
        c->head = need(malloc(HEAD_SIZE));
        c->head_length = 0;
        if (reads_events(c))
            make_event_request(path_of(c));
        else if (options.mode == FANOUT)
            make_request(path_of(c));
        if (write_some(c, request, strlen(request)) != (ssize_t)strlen(request))
            die("the request was not sent");
        want_out(c, 0);
        if (!c->tls)
            return;
    }
    read_head(c);
}
