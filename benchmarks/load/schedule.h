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

static void on_timer(void)
{
    uint64_t fired;
    if (read(timer, &fired, sizeof fired) == sizeof fired) {
        now = clock_now();
        publisher->owed++;
    }
}
