/*
 * The least that can be called a WebSocket echo server: handshake, unmask, reply. One thread, epoll, no checks.
 * What comes on the path /publish goes to all others instead.
 *
 *     echo PORT
 *
 * Not a server to use. It stands in the table as the limit of what the load generator can measure on this machine.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM (256 * 1024)

struct connection {
    int fd, open, publishes, place; /* its place among all */
    unsigned char *in; /* what came of a frame that isn't whole; NULL while there never was one */
    size_t length, room;
    unsigned char *out; /* what the kernel didn't take */
    size_t out_at, out_end;
};

static int epoll;
static unsigned char shared[ROOM];
static struct connection *all[1 << 20];
static int count;

static void drop(struct connection *c)
{
    all[c->place] = all[--count];
    all[c->place]->place = c->place;
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void watch(struct connection *c, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
}

static void reply(struct connection *c, const unsigned char *from, size_t size)
{
    if (c->out_at < c->out_end) {
        c->out = realloc(c->out, c->out_end + size);
        memcpy(c->out + c->out_end, from, size);
        c->out_end += size;
        return;
    }
    ssize_t n = send(c->fd, from, size, MSG_NOSIGNAL);
    if (n < 0)
        n = 0;
    if ((size_t)n == size)
        return;
    c->out = realloc(c->out, size - (size_t)n);
    memcpy(c->out, from + n, size - (size_t)n);
    c->out_at = 0;
    c->out_end = size - (size_t)n;
    watch(c, EPOLL_CTL_MOD, EPOLLOUT); /* reads no more before that has left */
}

static void flush(struct connection *c)
{
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_end - c->out_at, MSG_NOSIGNAL);
    if (n > 0)
        c->out_at += (size_t)n;
    if (c->out_at == c->out_end)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

/* Answer the opening handshake; returns the bytes used. */
static size_t open_up(struct connection *c, const unsigned char *in, size_t length)
{
    const char *end = memmem(in, length, "\r\n\r\n", 4), *key = memmem(in, length, "Sec-WebSocket-Key: ", 19);
    unsigned char joined[64], digest[20], accept[32];
    char head[256];
    if (!end || !key || end - key < 43)
        return 0;
    memcpy(joined, key + 19, 24);
    memcpy(joined + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    SHA1(joined, 60, digest);
    EVP_EncodeBlock(accept, digest, 20);
    int n = snprintf(head, sizeof head, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    reply(c, (unsigned char *)head, (size_t)n);
    c->open = 1;
    c->publishes = !memcmp(in, "GET /publish ", 13);
    return (size_t)(end + 4 - (const char *)in);
}

/* Forwards, for `to` lies before `from` in the same buffer. */
static void unmask(unsigned char *to, const unsigned char *from, size_t size, uint32_t mask)
{
    uint64_t wide = (uint64_t)mask << 32 | mask, word;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    for (; i < size; i++)
        to[i] = from[i] ^ (unsigned char)(mask >> 8 * (i % 4));
}

/* Turn the whole frames in `in` into replies and send them in one write; returns the bytes used. */
static size_t answer(struct connection *c, unsigned char *in, size_t length, size_t *needed)
{
    size_t at = 0, begin = 0, to = 0;
    *needed = 0;
    while (length - at >= 2) {
        unsigned char *frame = in + at;
        size_t size = frame[1] & 127, head = size == 126 ? 8 : size == 127 ? 14 : 6;
        if (length - at < head)
            break;
        if (head > 6)
            for (size_t i = (size = 0, 2); i < head - 4; i++)
                size = size << 8 | frame[i];
        *needed = head + size;
        if (length - at < head + size)
            break;
        uint32_t mask;
        memcpy(&mask, frame + head - 4, 4);
        if (at == 0)
            begin = to = 4; /* a reply is 4 bytes shorter, so the first one's payload stays where it is */
        memmove(in + to, frame, head - 4);
        in[to + 1] &= 127;
        unmask(in + to + head - 4, frame + head, size, mask);
        to += head - 4 + size;
        at += head + size;
        *needed = 0;
    }
    if (to > begin && !c->publishes)
        reply(c, in + begin, to - begin);
    for (int i = 0; to > begin && c->publishes && i < count; i++)
        if (all[i] != c && all[i]->open)
            reply(all[i], in + begin, to - begin);
    return at;
}

static void serve(struct connection *c)
{
    unsigned char *in = c->in ? c->in : shared;
    size_t room = c->in ? c->room : ROOM, needed = 0;
    ssize_t n = recv(c->fd, in + c->length, room - c->length, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(c);
        return;
    }
    c->length += (size_t)n;
    size_t used = c->open ? answer(c, in, c->length, &needed) : open_up(c, in, c->length);
    c->length -= used;
    if (!c->length)
        return;
    if (needed < ROOM)
        needed = ROOM;
    if (c->in)
        memmove(c->in, c->in + used, c->length);
    if (c->room < needed) {
        c->in = realloc(c->in, needed);
        c->room = needed;
    }
    if (in == shared)
        memcpy(c->in, shared + used, c->length);
}

int main(int argc, char **argv)
{
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "9001"))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
        perror("echo");
        return 1;
    }
    epoll = epoll_create1(0);
    struct epoll_event events[256], arrival = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &arrival);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c && events[i].events & EPOLLOUT)
                flush(c);
            else if (c)
                serve(c);
            else
                for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    c = calloc(1, sizeof *c);
                    c->fd = fd;
                    c->place = count;
                    all[count++] = c; /* there is no system with so many open files */
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    watch(c, EPOLL_CTL_ADD, EPOLLIN);
                }
        }
    }
}
