/* Part of load.c: one connection and its socket. */

enum state { CONNECTING, SECURING, OPENING, OPEN, CLOSING };

struct connection {
    int fd, waits_for_out, hostile, received_close;
    enum state state;
    SSL *tls;
    void (*take)(struct connection *, const unsigned char *, size_t); /* processes received bytes */

    /* Sending. */
    unsigned char *out;     /* room for in_flight frames */
    size_t out_at, out_end; /* the bytes that the kernel has not accepted yet */
    unsigned owed;          /* messages to send when out is empty */
    uint32_t mask, sent;
    uint64_t *sent_at; /* by message number modulo slots */

    /* Receiving. */
    unsigned char header[10];
    unsigned header_have;
    int in_payload, in_message, look;
    uint64_t left, at; /* missing bytes of this frame; received bytes of this message */
    uint32_t received;
    z_stream *inflater;
    int fresh_window; /* server_no_context_takeover */

    /* The Centrifuge protocol, and HTTP. */
    char *text; /* the message received so far; NULL in other protocols */
    size_t text_length;
    uint32_t replied; /* replies to publish commands */

    /* Control frames. */
    unsigned char control[125], pong[131];
    size_t pong_length;

    /* Opening handshake. */
    uint64_t began;
    char *head;
    size_t head_length;
};

static unsigned slots; /* number of messages whose times are kept */
static int epoll, open_count, opening;
static SSL_CTX *tls_context;
static struct connection *connections;
static uint64_t now; /* when the current event was noticed */

static void watch(struct connection *c, int operation, int out)
{
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    c->waits_for_out = out;
    if (epoll_ctl(epoll, operation, c->fd, &event))
        die("epoll_ctl: %s", strerror(errno));
}

static void want_out(struct connection *c, int out)
{
    if (c->waits_for_out != out)
        watch(c, EPOLL_CTL_MOD, out);
}

/* This function and the next two return the number of bytes, -1 if the socket is not ready, 0 at the end. */
static ssize_t moved(struct connection *c, ssize_t n)
{
    if (c->tls && n <= 0) {
        int error = SSL_get_error(c->tls, (int)n);
        return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
    }
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    return n;
}

static ssize_t read_some(struct connection *c, void *to, size_t room)
{
    return moved(c, c->tls ? SSL_read(c->tls, to, (int)room) : recv(c->fd, to, room, 0));
}

static ssize_t write_some(struct connection *c, const void *from, size_t size)
{
    return moved(c, c->tls ? SSL_write(c->tls, from, (int)size) : send(c->fd, from, size, MSG_NOSIGNAL));
}

static union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} server;

/* Parse the address of the server. */
static void find_server(void)
{
    if (inet_pton(AF_INET, options.address, &server.v4.sin_addr) == 1) {
        server.v4.sin_family = AF_INET;
        server.v4.sin_port = htons((uint16_t)options.port);
    } else if (inet_pton(AF_INET6, options.address, &server.v6.sin6_addr) == 1) {
        server.v6.sin6_family = AF_INET6;
        server.v6.sin6_port = htons((uint16_t)options.port);
    } else
        die("--address is no IPv4 or IPv6 address: %s", options.address);
}

/* Connect to 127.0.0.1 from several addresses, so that there are enough ports. */
static void choose_source(int fd)
{
    static unsigned dialled;
    struct sockaddr_in from = {.sin_family = AF_INET};
    int one = 1;
    if (server.any.sa_family != AF_INET || server.v4.sin_addr.s_addr != htonl(INADDR_LOOPBACK))
        return;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + dialled++ % 8);
    if (bind(fd, (struct sockaddr *)&from, sizeof from))
        die("bind: %s", strerror(errno));
}

static void dial(struct connection *c)
{
    int one = 1;
    c->state = CONNECTING;
    c->fd = socket(server.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    choose_source(c->fd);
    c->began = clock_now();
    opening++;
    if (connect(c->fd, &server.any, sizeof server) && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    watch(c, EPOLL_CTL_ADD, 1);
}

static void hang_up(struct connection *c)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* RST: no TIME_WAIT is left */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    SSL_free(c->tls);
    c->tls = NULL;
    close(c->fd);
    c->fd = -1;
}
