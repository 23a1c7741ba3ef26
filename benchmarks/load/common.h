/* Part of load.c: options and functions that all parts use. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define READ_SIZE (256 * 1024)
#define HEAD_SIZE 16384
#define MAX_HEADERS 32
#define VARIANTS 64 /* messages of the compressed mode: together more than deflate's window of 32 KiB */
#define MAX_PIDS 16
#define SLOTS 4096 /* publications whose times are kept */
#define SECOND 1000000000ull

enum mode {
    ECHO, COMMAND, COMPRESSED, HANDSHAKES, IDLE, HOSTILE, FANOUT,
    API_PUBLISH, API_BATCH, CENTRIFUGE_PUBLISH, PUBLISH_BACK, CONNECT, LATENCY
};
static const char *const MODES[] = {
    "echo", "command", "compressed", "handshakes", "idle", "hostile", "fanout",
    "api-publish", "api-batch", "centrifuge-publish", "publish-back", "connect", "latency", NULL};

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static struct {
    enum mode mode;
    int port, connections, in_flight, parallel, tls, pids, channels, redis, centrifuge, reset, sse, protobuf;
    size_t size;
    const char *payload, *path, *publish, *api_key, *address, *host, *verify, *channel, *token, *header[MAX_HEADERS];
    int headers;
    double duration, warmup, rate, timeout;
    int pid[MAX_PIDS];
} options = {.connections = 100, .in_flight = 1, .parallel = 32, .size = 64, .payload = "text",
             .publish = "/publish", .api_key = "bench", .address = "127.0.0.1", .channel = "foo", .duration = 3,
             .warmup = 1, .timeout = 60};

static volatile sig_atomic_t interrupted;

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *need(void *memory)
{
    if (!memory)
        die("out of memory");
    return memory;
}

static int is_api(void)
{
    return options.mode == API_PUBLISH || options.mode == API_BATCH;
}

static uint64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}
