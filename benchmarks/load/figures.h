/* Part of load.c: times and CPU time. */

static int measuring;
static uint64_t messages, reply_bytes;
static uint64_t histogram[64 * 60]; /* 64 steps for each power of two, so 1.6 % exact */

static void record(uint64_t nanoseconds)
{
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

static double server_cpu(void)
{
    double ticks = 0;
    for (int i = 0; i < options.pids; i++) {
        char path[64], text[1024];
        unsigned long user, system;
        snprintf(path, sizeof path, "/proc/%d/stat", options.pid[i]);
        FILE *file = fopen(path, "r");
        size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
        text[n] = 0;
        /* The name, in parentheses, may hold anything; user and system time are fields 14 and 15. */
        char *rest = strrchr(text, ')');
        if (!rest || sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
            die("server process %d is gone", options.pid[i]);
        fclose(file);
        ticks += (double)(user + system);
    }
    return ticks / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}
