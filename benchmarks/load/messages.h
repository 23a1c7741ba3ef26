/* Part of load.c: messages and requests, created in advance. */

static unsigned char *expected;
static size_t frame_length, stamp_at; /* of echo frames: their length, and where the payload begins */
static int opcode = TEXT, stamped;
static struct {
    unsigned char text[2048], frame[2200];
    size_t size, length;
} variants[VARIANTS];
static char request[16384], accept_value[64];

static size_t put_header(unsigned char *to, int first, size_t size, uint32_t mask)
{
    size_t n = 2;
    to[0] = (unsigned char)first;
    if (size < 126)
        to[1] = (unsigned char)(0x80 | size);
    else if (size < 65536) {
        to[1] = 0x80 | 126;
        for (; n < 4; n++)
            to[n] = (unsigned char)(size >> 8 * (3 - n));
    } else {
        to[1] = 0x80 | 127;
        for (; n < 10; n++)
            to[n] = (unsigned char)(size >> 8 * (9 - n));
    }
    memcpy(to + n, &mask, 4);
    return n + 4;
}

static size_t put_frame(unsigned char *to, int first, const unsigned char *payload, size_t size, uint32_t mask)
{
    size_t n = put_header(to, first, size, mask);
    for (size_t i = 0; i < size; i++)
        to[n + i] = payload[i] ^ ((unsigned char *)&mask)[i % 4];
    return n + size;
}

/* One of 64 letters, none of which JSON escapes. */
static uint32_t letter(uint32_t number)
{
    return number % 64 == '\\' - '0' ? '~' : '0' + number % 64;
}

/* Four letters that distinguish a message from the 16 million messages before it. They are valid UTF-8. */
static uint32_t stamp(uint32_t number)
{
    return letter(number) | letter(number >> 6) << 8 | letter(number >> 12) << 16 | letter(number >> 18) << 24;
}

static void make_payload(void)
{
    static const char chinese[] = "服务器收到了消息 and sends it back，一字不差。";
    expected = need(calloc(1, options.size + 1));
    for (size_t i = 0; i < options.size; i++)
        expected[i] = (unsigned char)('a' + i % 26);
    if (!strcmp(options.payload, "binary")) {
        opcode = BINARY;
        for (size_t i = 0; i < options.size; i++)
            expected[i] = (unsigned char)(i * 167 + (i >> 8));
    } else if (!strcmp(options.payload, "utf8")) {
        size_t at = 4; /* after the stamp */
        for (const char *from = chinese; at < options.size;) {
            size_t k = 1;
            while ((from[k] & 0xc0) == 0x80)
                k++;
            if (at + k > options.size)
                break; /* the rest stays ASCII, so that no character is cut */
            memcpy(expected + at, from, k);
            at += k;
            from = from[k] ? from + k : chinese;
        }
    } else if (strcmp(options.payload, "text"))
        die("unknown payload %s: text, binary or utf8", options.payload);
    stamped = options.size >= 4;
    if (options.mode == COMMAND) {
        options.size = 4;
        memcpy(expected, "time", 4);
        stamped = 0;
    }
    unsigned char header[14];
    stamp_at = put_header(header, 0, options.size, 0);
    frame_length = stamp_at + options.size;
}

/* JSON as servers send it: the names repeat, the values do not. */
static void make_variants(void)
{
    srand(1);
    for (int v = 0; v < VARIANTS; v++) {
        char *text = (char *)variants[v].text;
        size_t n = (size_t)sprintf(text, "{\"id\":%d,\"items\":[", rand());
        while (n < options.size - 100)
            n += (size_t)sprintf(text + n, "{\"name\":\"n%x\",\"price\":%d.%02d,\"open\":%s},", rand(), rand() % 1000,
                                 rand() % 100, rand() % 2 ? "true" : "false");
        n += (size_t)sprintf(text + n, "0],\"note\":\"");
        while (n < options.size - 2)
            text[n++] = (char)('a' + rand() % 26);
        memcpy(text + n, "\"}", 2);
        variants[v].size = options.size;

        unsigned char packed[2048];
        z_stream z = {.next_in = variants[v].text, .avail_in = (unsigned)options.size, .next_out = packed,
                      .avail_out = sizeof packed};
        if (deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) || deflate(&z, Z_SYNC_FLUSH) || z.avail_in)
            die("deflate failed");
        /* RFC 7692 section 7.2.1: the 4 bytes 00 00 ff ff at the end are not sent. */
        variants[v].length = put_frame(variants[v].frame, 0xc0 | TEXT, packed, z.total_out - 4, (uint32_t)rand());
        deflateEnd(&z);
    }
}

/* The headers of `--header`, and the Origin of a page on the same server if there is none among them. */
static const char *more_headers(const char *host)
{
    static char lines[8192];
    size_t n = 0;
    int has_origin = 0;
    for (int i = 0; i < options.headers; i++)
        has_origin |= !strncasecmp(options.header[i], "Origin:", 7);
    if (!has_origin)
        n = (size_t)snprintf(lines, sizeof lines, "Origin: http%s://%s\r\n", options.tls ? "s" : "", host);
    for (int i = 0; i < options.headers && n < sizeof lines; i++)
        n += (size_t)snprintf(lines + n, sizeof lines - n, "%s\r\n", options.header[i]);
    if (n >= sizeof lines)
        die("the headers have over %zu bytes", sizeof lines - 1);
    return lines;
}

static void make_request(const char *path)
{
    unsigned char key[16], digest[20], key64[32], joined[80];
    for (int i = 0; i < 16; i++)
        key[i] = (unsigned char)(i * 37 + 11);
    EVP_EncodeBlock(key64, key, 16);
    int n = snprintf((char *)joined, sizeof joined, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key64);
    SHA1(joined, (size_t)n, digest);
    EVP_EncodeBlock((unsigned char *)accept_value, digest, 20);
    char local[32];
    snprintf(local, sizeof local, "127.0.0.1:%d", options.port);
    const char *host = options.host ? options.host : local;
    /* The headers that Chromium sends, in its order. Only the modes that measure compression or handshakes offer
       compression: in the others, a server with compression would do more work than one without. */
    n = snprintf(request, sizeof request,
                 "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"
                 "Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, "
                 "like Gecko) Chrome/126.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\n%s"
                 "Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: "
                 "en-US,en;q=0.9\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
                 path, host, more_headers(host), key64,
                 options.mode == COMPRESSED || options.mode == HANDSHAKES
                     ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
    if (n >= (int)sizeof request)
        die("the request has over %zu bytes", sizeof request - 1);
}
