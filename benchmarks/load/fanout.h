/* Part of load.c: one publisher, and many subscribers. */

static struct connection *publisher; /* the last connection; NULL in modes without one */
static unsigned left_to_reach[SLOTS];

/* The number of the message that a connection waits for. With `--channels`, each connection has its own channel, and
   the messages go to the channels in turn. */
static uint32_t number_of(const struct connection *c)
{
    return options.channels ? c->received * (unsigned)options.channels + (unsigned)(c - connections) : c->received;
}

/* A message has reached one more subscriber. When it has reached all, the publisher sends the next one. */
static void reached(uint32_t number)
{
    unsigned *left = &left_to_reach[number % SLOTS];
    if (!*left)
        *left = options.channels ? 1 : (unsigned)(options.connections - 1);
    if (--*left == 0)
        publisher->owed++;
}

/* The publisher speaks JSON. */
static int speaks_protobuf(const struct connection *c)
{
    return options.protobuf && c != publisher;
}

static const char *path_of(const struct connection *c)
{
    static char path[256];
    if (c == publisher && !options.centrifuge)
        return options.publish;
    if (speaks_protobuf(c)) {
        snprintf(path, sizeof path, "%s?format=protobuf", options.path);
        return path;
    }
    snprintf(path, sizeof path, options.channels ? "%s%05d" : "%s", options.path, (int)(c - connections));
    return path;
}

/* The servers' replies to a publisher differ, and are not checked: the subscribers check what was published. */
static void take_anything(struct connection *c, const unsigned char *from, size_t size)
{
    (void)c, (void)from, (void)size;
}

static void take_redis_replies(struct connection *c, const unsigned char *from, size_t size)
{
    (void)c;
    if (memchr(from, '-', size))
        die("Redis: %.*s", (int)size, from);
}

static size_t redis_channel_at; /* where the channel begins in a command */

/* Connect the publisher to Redis: it sends PUBLISH commands, and the replies are numbers. */
static void dial_redis(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.redis)};
    struct connection *c = publisher;
    char command[4096];
    int one = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to))
        die("Redis: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const char *channel = options.channels ? "c00000" : "foo";
    size_t length = strlen(channel);
    redis_channel_at = (size_t)sprintf(command, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n", length);
    stamp_at = redis_channel_at + (size_t)sprintf(command + redis_channel_at, "%s\r\n$%zu\r\n", channel, options.size);
    if (stamp_at + options.size + 2 > sizeof command)
        die("messages for Redis have at most %zu bytes", sizeof command - 100);
    memcpy(command + stamp_at, expected, options.size);
    memcpy(command + stamp_at + options.size, "\r\n", 2);
    frame_length = stamp_at + options.size + 2;
    c->sent_at = need(calloc(slots, sizeof *c->sent_at));
    c->out = need(malloc((unsigned)options.in_flight * frame_length));
    for (int i = 0; i < options.in_flight; i++)
        memcpy(c->out + (unsigned)i * frame_length, command, frame_length);
    c->state = OPEN;
    c->take = take_redis_replies;
    watch(c, EPOLL_CTL_ADD, 0);
}
