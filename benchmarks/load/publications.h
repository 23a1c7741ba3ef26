/* Part of load.c: the JSON of publications, and where it changes from one to the next. */

static uint32_t published; /* publications written so far, by all connections */

/* Where the changing parts of a publication are. */
static struct {
    size_t stamp, channel;
} within;

/* Append `{"channel":"foo","data":{"text":"..."}}`. */
static size_t put_publication(char *to)
{
    size_t n = (size_t)sprintf(to, "{\"channel\":\"");
    within.channel = n;
    n += (size_t)sprintf(to + n, "%s", options.channels ? "c00000" : options.channel);
    n += (size_t)sprintf(to + n, "\",\"data\":{\"text\":\"");
    within.stamp = n;
    return n + (size_t)sprintf(to + n, "%s\"}}", (char *)expected);
}

/* Write `digits` decimal digits of a number. */
static void put_digits(unsigned char *to, uint32_t number, int digits)
{
    while (digits--) {
        to[digits] = (unsigned char)('0' + number % 10);
        number /= 10;
    }
}

/* Give a publication its number, and with `--channels` its channel. The text is not masked. */
static void number_publication(unsigned char *publication)
{
    uint32_t mark = stamp(published);
    memcpy(publication + within.stamp, &mark, 4);
    if (options.channels)
        put_digits(publication + within.channel + 1, published % (uint32_t)options.channels, 5);
    published++;
}
