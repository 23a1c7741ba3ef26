/*
 * The load: many WebSocket connections in one process, none of them waiting for another.
 *
 *     load MODE --port N [options]
 *
 * Rule 1: it's never the limit. Frames are masked beforehand, replies are looked at where they were received,
 *         and "load_busy" says which part of a core it took.
 * Rule 2: it believes nothing. Every reply is checked for type and size; content up to 1 KiB always, larger ones
 *         in every 16th message. Anything unexpected ends the run with exit code 1 and one line that says why.
 * Rule 3: what is counted lies between two instants of this process, and so does the server's CPU time.
 *
 * The result is one line of JSON on standard output.
 */
#include "load/common.h"

#include "load/figures.h"
#include "load/messages.h"

#include "load/connection.h"
#include "load/fanout.h"

#include "load/centrifuge.h"
#include "load/frames.h"
#include "load/handshake.h"

static unsigned char buffer[READ_SIZE];
static int hostile_on;
static uint64_t hostile_base;

static void serve(struct connection *c, unsigned events)
{
    if (c->state != OPEN) {
        go_on_opening(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t n;
        now = clock_now();
        while ((n = read_some(c, buffer, sizeof buffer)) > 0) {
            if (c == publisher) {
                /* What servers answer to a publisher differs; that it was published is seen elsewhere. */
                if (options.redis && memchr(buffer, '-', (size_t)n))
                    die("Redis: %.*s", (int)n, buffer);
                break;
            }
            take(c, buffer, (size_t)n);
            if (!c->tls || !SSL_has_pending(c->tls))
                break; /* epoll tells of the rest; what OpenSSL has already read it wouldn't tell of */
        }
        if (n == 0 && c->hostile)
            hostile_closed = 1;
        else if (n == 0)
            die("connection ended without a close frame");
    }
    if (!c->hostile)
        push(c);
    else if (hostile_on && !hostile_closed)
        push_hostile(c);
    if (c->hostile && hostile_closed && c->fd >= 0)
        hang_up(c);
}

static void turn(int timeout)
{
    struct epoll_event events[256];
    int n = epoll_wait(epoll, events, 256, timeout);
    if (n < 0 && errno != EINTR)
        die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++)
        serve(events[i].data.ptr, events[i].events);
    if (publisher && publisher->owed && publisher->state == OPEN)
        push(publisher);
}

static void open_all(int count)
{
    uint64_t limit = clock_now() + 60 * SECOND;
    for (int next = 0; open_count < count;) {
        while (next < count && opening < options.parallel)
            dial(&connections[next++]);
        turn(100);
        if (clock_now() > limit)
            die("only %d of %d connections opened within 60 s", open_count, count);
    }
}

static void run_for(double seconds)
{
    uint64_t end = clock_now() + (uint64_t)(seconds * 1e9), checked = 0, before = 0, moved_at = 0;
    for (uint64_t at; (at = clock_now()) < end; turn(10)) {
        if (!measuring || at < checked)
            continue;
        if (messages != before || !moved_at)
            moved_at = at;
        if (at - moved_at > 10 * SECOND)
            die("no reply for 10 s");
        before = messages;
        checked = at + SECOND / 10;
    }
}

/* Measure one phase and print its figures as members of a JSON object. */
static void measure(const char *prefix)
{
    run_for(options.warmup);
    memset(histogram, 0, sizeof histogram);
    messages = reply_bytes = 0;
    hostile_base = hostile_messages;
    measuring = 1;
    double cpu = server_cpu(), own = own_cpu();
    uint64_t began = clock_now();
    run_for(options.duration);
    double seconds = (double)(clock_now() - began) / 1e9;
    cpu = server_cpu() - cpu;
    own = own_cpu() - own;
    measuring = 0;
    /* Who is still waiting counts too, or the longest waits would be left out. */
    for (int i = 0; i < options.connections && options.mode == HOSTILE; i++)
        if (!connections[i].hostile && connections[i].sent != connections[i].received)
            record(clock_now() - connections[i].sent_at[0]);
    if (!messages)
        die("no replies within %g s", options.duration);
    printf("\"%srate\": %.1f, \"%sp50_us\": %.1f, \"%sp99_us\": %.1f, \"%smessages\": %llu, \"%sload_busy\": %.3f",
           prefix, (double)messages / seconds, prefix, percentile(.5), prefix, percentile(.99), prefix,
           (unsigned long long)messages, prefix, own / seconds);
    if (options.mode == COMPRESSED)
        printf(", \"reply_bytes\": %.1f", (double)reply_bytes / (double)messages);
    if (options.pids)
        printf(", \"%scpu_us\": %.3f, \"%sserver_busy\": %.3f", prefix, cpu * 1e6 / (double)messages, prefix,
               cpu / seconds);
}

static void run_hostile(void)
{
    struct connection *c = &connections[options.connections - 1];
    printf("{");
    measure("without_");
    c->out = need(calloc(1, 65532));
    c->out_end = 65532;
    for (size_t i = 0; i < c->out_end; i += 6)
        put_frame(c->out + i, 0x80 | TEXT, NULL, 0, 0x12345678);
    hostile_on = 1;
    want_out(c, 1);
    printf(", ");
    measure("");
    printf(", \"hostile_rate\": %.1f, \"hostile_closed\": %s}\n",
           (double)(hostile_messages - hostile_base) / options.duration, hostile_closed ? "true" : "false");
}

/* Hold the connections until standard input ends, so that whoever started us takes us along when it ends. */
static void hold(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        die("idle needs a pipe as standard input");
    printf("{\"open\": %d}\n", open_count);
    fflush(stdout);
    for (int held = 1; held;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                serve(events[i].data.ptr, events[i].events);
            else if (read(STDIN_FILENO, buffer, sizeof buffer) <= 0)
                held = 0;
    }
    printf("{\"pings\": %llu}\n", (unsigned long long)pings);
}

static void usage(void)
{
    fputs("usage: load echo|command|compressed|handshakes|idle|hostile|fanout --port N\n"
          "    [--path /echo] [--connections 100] [--in-flight 1] [--parallel 32] [--size 64]\n"
          "    [--payload text|binary|utf8] [--duration 3] [--warmup 1] [--pid SERVER]... [--tls]\n"
          "    fanout: [--publish /publish | --redis PORT] [--channels]; also idle: [--centrifuge]\n", stderr);
    exit(2);
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'u'}, {"connections", 1, 0, 'c'}, {"in-flight", 1, 0, 'i'},
        {"parallel", 1, 0, 'a'}, {"size", 1, 0, 's'}, {"payload", 1, 0, 'l'}, {"duration", 1, 0, 'd'},
        {"warmup", 1, 0, 'w'}, {"pid", 1, 0, 'P'}, {"tls", 0, 0, 't'},
        {"publish", 1, 0, 'b'}, {"redis", 1, 0, 'r'}, {"channels", 0, 0, 'n'}, {"centrifuge", 0, 0, 'f'}, {0}};
    if (argc < 2)
        usage();
    while (MODES[options.mode] && strcmp(MODES[options.mode], argv[1]))
        options.mode++;
    if (!MODES[options.mode])
        usage();
    optind = 2;
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;)
        switch (c) {
        case 'p': options.port = atoi(optarg); break;
        case 'u': options.path = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 'i': options.in_flight = atoi(optarg); break;
        case 'a': options.parallel = atoi(optarg); break;
        case 's': options.size = strtoul(optarg, NULL, 10); break;
        case 'l': options.payload = optarg; break;
        case 'd': options.duration = atof(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 't': options.tls = 1; break;
        case 'b': options.publish = optarg; break;
        case 'r': options.redis = atoi(optarg); break;
        case 'f': options.centrifuge = 1; break;
        case 'n': options.channels = 1; break;
        case 'P':
            if (options.pids == MAX_PIDS)
                die("at most %d processes", MAX_PIDS);
            options.pid[options.pids++] = atoi(optarg);
            break;
        default: usage();
        }
    if (optind != argc || options.port < 1 || options.connections < 1 || options.in_flight < 1 ||
        options.parallel < 1 || options.duration <= 0)
        usage();
    if (options.mode == HOSTILE && options.in_flight != 1)
        die("hostile knows 1 in flight only");
    if (options.centrifuge && (options.size > 2000 || (options.mode != FANOUT && options.mode != IDLE)))
        die("only fanout and idle know the Centrifuge protocol, and 2000 bytes");
    if (options.mode == FANOUT && (options.in_flight > SLOTS / 2 || options.size < 4))
        die("fanout knows %d in flight and 4 bytes at least", SLOTS / 2);
    if (options.mode == COMPRESSED && (options.size < 200 || options.size > 1900))
        die("compressed messages have 200 to 1900 bytes");
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make_payload();
    if (options.mode == COMPRESSED)
        make_variants();
    make_request(options.path);
    if (options.tls) {
        tls_context = need(SSL_CTX_new(TLS_client_method()));
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_read_ahead(tls_context, 1);
        /* The first that browsers offer, and the only one: all servers shall do the same work. */
        SSL_CTX_set_ciphersuites(tls_context, "TLS_AES_128_GCM_SHA256");
        /* As browsers offer it for WebSocket (RFC 7301). Zero is success. */
        static const unsigned char alpn[] = "\x08http/1.1";
        if (SSL_CTX_set_alpn_protos(tls_context, alpn, sizeof alpn - 1))
            die("OpenSSL does not take the ALPN offer");
    }
    epoll = epoll_create1(0);

    if (options.mode == HANDSHAKES)
        options.connections = options.parallel;
    if (options.channels)
        options.channels = options.connections;
    if (options.mode == HOSTILE || options.mode == FANOUT)
        options.connections++; /* the last one is the hostile one, or the publisher */
    connections = need(calloc((unsigned)options.connections, sizeof *connections));
    if (options.mode == HOSTILE)
        connections[options.connections - 1].hostile = 1;
    slots = (unsigned)options.in_flight;
    if (options.mode == FANOUT) {
        publisher = &connections[options.connections - 1];
        slots = SLOTS;
    }
    if (options.mode != IDLE)
        alarm((unsigned)(60 + 2 * (options.warmup + options.duration) + 30));
    if (options.mode == HANDSHAKES) {
        for (int i = 0; i < options.connections; i++)
            dial(&connections[i]);
    } else
        open_all(options.connections - (options.redis != 0));
    if (options.redis)
        dial_redis();
    if (options.mode == FANOUT)
        run_for(0.3); /* a server may take note of a subscriber after its answer */

    for (int i = 0; i < options.connections && options.mode != HANDSHAKES && options.mode != IDLE; i++)
        if (!connections[i].hostile && (!publisher || publisher == &connections[i])) {
            now = clock_now();
            connections[i].owed = (unsigned)options.in_flight;
            push(&connections[i]);
        }
    if (options.mode == IDLE)
        hold();
    else if (options.mode == HOSTILE)
        run_hostile();
    else {
        printf("{");
        measure("");
        printf("}\n");
    }
    fflush(stdout);
    for (int i = 0; i < options.connections; i++)
        if (connections[i].fd > 0)
            hang_up(&connections[i]);
    return 0;
}
