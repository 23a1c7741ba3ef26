/* Part of load.c: messages that are sent at certain times, with the precision of a timer of the kernel. */

static int timer = -1;

static void make_timer(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &timer};
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (timer < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event))
        die("timer: %s", strerror(errno));
}

static void wake_at(uint64_t at)
{
    struct itimerspec when = {.it_value = {(time_t)(at / SECOND), (long)(at % SECOND)}};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL))
        die("timer: %s", strerror(errno));
}

/* Publish the next message after a random pause of 0 to 10 ms. */
static void publish_later(void)
{
    wake_at(clock_now() + 1 + (uint64_t)(rand() % 10000) * 1000);
}

/* In the mode latency, message number n of all is due at the time `first + n / rate`, on connection n modulo their
   number. The latency counts from that time, and not from the time at which the load generator got to sending it. */
static struct {
    uint64_t first, number;
} due;

static uint64_t time_of(uint64_t number)
{
    return due.first + (uint64_t)((double)number * 1e9 / options.rate);
}

/* When the message was due whose reply a connection waits for. */
static uint64_t due_at(const struct connection *c)
{
    return time_of((uint64_t)c->received * (unsigned)options.connections + (uint64_t)(c - connections));
}

static void push(struct connection *c);

/* Send all messages that are due. */
static void send_due(void)
{
    now = clock_now();
    for (; time_of(due.number) <= now; due.number++) {
        struct connection *c = &connections[due.number % (unsigned)options.connections];
        c->owed++;
        push(c);
    }
    wake_at(time_of(due.number));
}

static void on_timer(void)
{
    uint64_t fired;
    if (read(timer, &fired, sizeof fired) != sizeof fired)
        return;
    now = clock_now();
    if (options.mode == LATENCY)
        send_due();
    else
        publisher->owed++;
}
