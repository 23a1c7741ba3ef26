/*
 * The load generator: many clients in one process, with one epoll loop. No client waits for another one.
 *
 *     load MODE --port N [options]
 *
 * Rule 1: the load generator must not be the bottleneck. It masks frames in advance, and checks replies in the
 *         buffer that they were received in. "load_busy" is the share of a core that it used.
 * Rule 2: it checks the type and the size of every reply. It checks the content of every reply up to 1 KiB, and of
 *         every 16th larger one. An unexpected reply ends the run with exit code 1 and one line that says why.
 * Rule 3: it counts messages and the server's CPU time between the same two points in time.
 *
 * The result is one line of JSON on standard output.
 */
#include "load/common.h"

#include "load/figures.h"
#include "load/messages.h"
#include "load/options.h"

#include "load/connection.h"
#include "load/fanout.h"
#include "load/publications.h"
#include "load/schedule.h"
#include "load/text.h"

#include "load/api.h"
#include "load/centrifuge.h"
#include "load/events.h"
#include "load/frames.h"
#include "load/handshake.h"

static unsigned char buffer[READ_SIZE];
static int hostile_on;
static uint64_t hostile_base;

static void serve(struct connection *c, unsigned events)
{
    if (c->state < OPEN) {
        go_on_opening(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t n;
        now = clock_now();
        while ((n = read_some(c, buffer, sizeof buffer)) > 0) {
            c->take(c, buffer, (size_t)n);
            if (!c->tls || !SSL_has_pending(c->tls))
                break; /* epoll reports further data, but not data that OpenSSL has already read */
        }
        if (n == 0 && c->hostile)
            hostile_closed = 1;
        else if (n == 0 && c->received_close) {
            hang_up(c);
            return;
        } else if (n == 0)
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
        if (events[i].data.ptr == &timer)
            on_timer();
        else
            serve(events[i].data.ptr, events[i].events);
    if (publisher && publisher->owed && publisher->state == OPEN)
        push(publisher);
}

static void open_all(int count)
{
    uint64_t limit = clock_now() + (uint64_t)(options.timeout * 1e9);
    for (int next = 0; open_count < count;) {
        while (next < count && opening < options.parallel)
            dial(&connections[next++]);
        turn(100);
        if (interrupted)
            die("interrupted while connections were opened");
        if (clock_now() > limit)
            die("only %d of %d connections opened within %g s", open_count, count, options.timeout);
    }
}

static void run_for(double seconds)
{
    uint64_t end = clock_now() + (uint64_t)(seconds * 1e9), checked = 0, before = 0, moved_at = 0;
    for (uint64_t at; !interrupted && (at = clock_now()) < end; turn(10)) {
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

static struct {
    uint64_t at;
    double cpu, own;
} began;

static void begin(void)
{
    memset(histogram, 0, sizeof histogram);
    messages = reply_bytes = longest = 0;
    hostile_base = hostile_messages;
    measuring = 1;
    began.cpu = server_cpu();
    began.own = own_cpu();
    began.at = clock_now();
}

static double end(void)
{
    double seconds = (double)(clock_now() - began.at) / 1e9;
    began.cpu = server_cpu() - began.cpu;
    began.own = own_cpu() - began.own;
    measuring = 0;
    return seconds;
}

/* Print the figures of a phase as members of a JSON object. */
static void print_figures(const char *prefix, double seconds)
{
    printf("\"%srate\": %.1f, \"%smessages\": %llu, \"%sload_busy\": %.3f", prefix, (double)messages / seconds, prefix,
           (unsigned long long)messages, prefix, began.own / seconds);
    if (percentile(.5) > 0)
        printf(", \"%sp50_us\": %.1f, \"%sp90_us\": %.1f, \"%sp99_us\": %.1f, \"%sp999_us\": %.1f, \"%smax_us\": %.1f",
               prefix, percentile(.5), prefix, percentile(.9), prefix, percentile(.99), prefix, percentile(.999), prefix,
               (double)longest / 1000);
    if (options.mode == COMPRESSED)
        printf(", \"reply_bytes\": %.1f", (double)reply_bytes / (double)messages);
    if (options.pids)
        printf(", \"%scpu_us\": %.3f, \"%sserver_busy\": %.3f", prefix, began.cpu * 1e6 / (double)messages, prefix,
               began.cpu / seconds);
}

/* Measure for a certain time, and print the figures. */
static void measure(const char *prefix)
{
    run_for(options.warmup);
    begin();
    run_for(options.duration);
    double seconds = end();
    /* Connections that are still waiting count too, or the longest waits would be left out. */
    for (int i = 0; i < options.connections && options.mode == HOSTILE; i++)
        if (!connections[i].hostile && connections[i].sent != connections[i].received)
            record(clock_now() - connections[i].sent_at[0]);
    if (!messages && interrupted)
        die("interrupted before the first reply");
    if (!messages)
        die("no replies within %g s", options.duration);
    print_figures(prefix, seconds);
}

/* Wait until the publisher has all replies, and the subscriber all publications. */
static void drain(void)
{
    uint64_t limit = clock_now() + 10 * SECOND;
    for (draining = 1; !all_seen(); turn(10))
        if (clock_now() > limit)
            die("%u publications, but %u replies and %u received publications", publisher->sent, publisher->replied,
                connections[0].received);
}

static void send_close(struct connection *c)
{
    unsigned char frame[16];
    size_t n = put_frame(frame, 0x80 | CLOSE, (const unsigned char *)"\x03\xe8", 2, c->mask);
    c->state = CLOSING;
    if (write_some(c, frame, n) != (ssize_t)n)
        die("the close frame was not sent");
}

/* Close all connections, with the closing handshake `--parallel` at a time, or with resets, as if clients were lost. */
static void close_all(void)
{
    for (int i = 0; i < options.connections && options.reset; i++)
        hang_up(&connections[i]);
    if (options.reset)
        return;
    uint64_t limit = clock_now() + 60 * SECOND;
    for (unsigned next = 0, gone = 0, count = (unsigned)options.connections; gone < count;) {
        while (next < count && next - closed < (unsigned)options.parallel)
            send_close(&connections[next++]);
        turn(100);
        while (gone < count && connections[gone].fd < 0)
            gone++;
        if (clock_now() > limit)
            die("only %u of %u connections closed within 60 s", gone, count);
    }
}

/* Open connections that stay open, then close them. */
static void run_connect(void)
{
    begin();
    open_all(options.connections);
    print_figures("", end());
    run_for(0.5); /* let the server finish the work that the last connections caused */
    begin();
    close_all();
    double seconds = (double)(clock_now() - began.at) / 1e9;
    run_for(1); /* let the server finish */
    end();
    printf(", \"closing_rate\": %.1f", options.connections / seconds);
    if (options.pids)
        printf(", \"closing_cpu_us\": %.3f", began.cpu * 1e6 / options.connections);
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

/* Hold the connections until standard input ends, so that this process ends with the one that started it. */
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
    printf("{\"pings\": %llu, \"publications\": %llu}\n", (unsigned long long)(pings + json_pings),
           (unsigned long long)publications);
}

static void make_connections(void)
{
    struct connection *last;
    connections = need(calloc((unsigned)options.connections, sizeof *connections));
    last = &connections[options.connections - 1];
    last->hostile = options.mode == HOSTILE;
    slots = (unsigned)options.in_flight;
    if (options.mode == FANOUT || options.mode == CENTRIFUGE_PUBLISH || options.mode == PUBLISH_BACK) {
        publisher = last;
        slots = SLOTS;
    }
}

static void make_tls(void)
{
    tls_context = need(SSL_CTX_new(TLS_client_method()));
    if (options.verify && !SSL_CTX_set_default_verify_paths(tls_context))
        die("OpenSSL has no certificates of authorities");
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(tls_context, 1);
    /* The first one that browsers offer, and the only one, so that all servers do the same work. */
    SSL_CTX_set_ciphersuites(tls_context, "TLS_AES_128_GCM_SHA256");
    /* As browsers offer it for WebSocket (RFC 7301). Zero is success. */
    static const unsigned char alpn[] = "\x08http/1.1";
    if (SSL_CTX_set_alpn_protos(tls_context, alpn, sizeof alpn - 1))
        die("OpenSSL does not take the ALPN offer");
}

/* Send the first messages: the publisher's, or those of each connection if there is no publisher. */
static void start_sending(void)
{
    if (options.mode == LATENCY) {
        due.first = clock_now();
        send_due();
        return;
    }
    for (int i = 0; i < options.connections; i++)
        if (!connections[i].hostile && (!publisher || publisher == &connections[i])) {
            now = clock_now();
            connections[i].owed = (unsigned)options.in_flight;
            push(&connections[i]);
        }
}

static void run(void)
{
    if (options.mode == IDLE) {
        open_all(options.connections);
        hold();
        return;
    }
    alarm((unsigned)(60 + 2 * (options.warmup + options.duration) + 30));
    if (options.mode == CONNECT) {
        printf("{");
        run_connect();
        printf("}\n");
        return;
    }
    if (options.mode == HANDSHAKES)
        for (int i = 0; i < options.connections; i++)
            dial(&connections[i]);
    else {
        open_all(options.connections - (options.redis != 0));
        if (options.redis)
            dial_redis();
        if (publisher)
            run_for(0.3); /* a server may register a subscriber after its answer */
        start_sending();
    }
    if (options.mode == HOSTILE) {
        run_hostile();
        return;
    }
    printf("{");
    measure("");
    if (options.mode == CENTRIFUGE_PUBLISH || options.mode == PUBLISH_BACK)
        drain();
    printf("}\n");
}

/* Ctrl-C ends the measurement early; the figures are printed. */
static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, interrupt);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    complete_options();
    find_server();
    make_payload();
    check_options();
    if (options.mode == COMPRESSED)
        make_variants();
    make_request(options.path);
    if (options.tls)
        make_tls();
    epoll = epoll_create1(0);
    if (options.mode == PUBLISH_BACK || options.mode == LATENCY)
        make_timer();
    make_connections();
    run();
    fflush(stdout);
    for (int i = 0; i < options.connections; i++)
        if (connections[i].fd > 0)
            hang_up(&connections[i]);
    return 0;
}
