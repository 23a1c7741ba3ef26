/* Part of load.c: times and CPU time. */

static int measuring;
static uint64_t messages, reply_bytes, longest;
static uint64_t histogram[64 * 60]; /* 64 steps for each power of two: the error is at most 1.6 % */

static void record(uint64_t nanoseconds)
{
    if (nanoseconds > longest)
        longest = nanoseconds;
    unsigned shift = nanoseconds < 64 ? 0 : 57 - (unsigned)__builtin_clzll(nanoseconds);
    histogram[nanoseconds < 64 ? nanoseconds : 64 * (shift + 1) + ((nanoseconds >> shift) - 64)]++;
}

static double percentile(double part)
{
    uint64_t seen = 0, total = 0;
    for (unsigned i = 0; i < 64 * 60; i++)
        total += histogram[i];
    for (unsigned i = 0; i < 64 * 60; i++) {
        seen += histogram[i];
        if (seen && (double)seen >= part * (double)total)
            return (double)(i < 64 ? i : (uint64_t)(64 + i % 64) << (i / 64 - 1)) / 1000;
    }
    return 0;
}

/* The CPU time of all threads of the server's processes, in seconds; the kernel counts it in nanoseconds. */
static double server_cpu(void)
{
    double seconds = 0;
    for (int i = 0; i < options.pids; i++) {
        struct timespec used;
        clockid_t clock;
        if (clock_getcpuclockid(options.pid[i], &clock) || clock_gettime(clock, &used))
            die("server process %d has ended", options.pid[i]);
        seconds += (double)used.tv_sec + (double)used.tv_nsec / 1e9;
    }
    return seconds;
}

static double own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}
