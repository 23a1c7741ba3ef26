/* Part of load.c: the frames of an open connection. */

static unsigned char inflated[8192];
static uint64_t hostile_messages, pings;
static int hostile_closed;
static int draining; /* no further messages are sent */
static unsigned closed; /* connections whose close frame the server has answered */

/* ---- sending ---- */

static size_t fill(struct connection *c, unsigned count)
{
    if (is_api()) {
        c->sent_at[c->sent++ % slots] = now;
        return fill_request(c);
    }
    unsigned char *to = c->out;
    for (unsigned i = 0; i < count; i++, c->sent++) {
        c->sent_at[c->sent % slots] = now;
        if (options.mode == COMPRESSED) {
            unsigned v = c->sent % VARIANTS;
            memcpy(to, variants[v].frame, variants[v].length);
            to += variants[v].length;
            continue;
        }
        if (c == publisher && options.redis && options.channels)
            put_digits(to + redis_channel_at + 1, c->sent % (unsigned)options.channels, 5);
        if (c->text)
            number_command(c, to + stamp_at);
        else if (stamped) {
            uint32_t masked = stamp(c->sent) ^ c->mask;
            memcpy(to + stamp_at, &masked, 4);
        }
        to += frame_length;
    }
    return (size_t)(to - c->out);
}

/* Send the messages that are owed, until the kernel accepts no more. */
static void push(struct connection *c)
{
    for (;;) {
        if (c->out_at == c->out_end && c->pong_length) {
            ssize_t n = write_some(c, c->pong, c->pong_length);
            if (n >= 0 && (size_t)n != c->pong_length)
                die("a pong of %zu bytes was not sent completely", c->pong_length);
            if (n < 0)
                break;
            c->pong_length = 0;
        }
        if (c->out_at == c->out_end && c->owed && !draining) {
            unsigned count = c->owed < (unsigned)options.in_flight ? c->owed : (unsigned)options.in_flight;
            c->out_at = 0;
            c->out_end = fill(c, count);
            c->owed -= count;
        }
        if (c->out_at == c->out_end) {
            want_out(c, 0);
            return;
        }
        ssize_t n = write_some(c, c->out + c->out_at, c->out_end - c->out_at);
        if (n == 0)
            die("connection broken while sending: %s", strerror(errno));
        if (n < 0)
            break;
        c->out_at += (size_t)n;
    }
    want_out(c, 1);
}

/* The hostile connection sends empty frames, one large write per turn, so that the other connections are served. */
static void push_hostile(struct connection *c)
{
    ssize_t n = write_some(c, c->out + c->out_at, c->out_end - c->out_at);
    if (n == 0)
        hostile_closed = 1;
    else if (n > 0)
        c->out_at = (c->out_at + (size_t)n) % c->out_end;
}

/* ---- receiving ---- */

static unsigned header_length(const struct connection *c)
{
    if (c->header_have < 2)
        return 2;
    return c->header[1] == 126 ? 4 : c->header[1] == 127 ? 10 : 2;
}

static void frame_begins(struct connection *c)
{
    int op = c->header[0] & 15;
    unsigned length = header_length(c);
    if (c->header[1] & 0x80)
        die("the server masks its frames");
    c->in_payload = 1;
    c->left = length == 2 ? c->header[1] : 0;
    for (unsigned i = 2; i < length; i++)
        c->left = c->left << 8 | c->header[i];
    if (op >= CLOSE) {
        if (c->left > 125 || !(c->header[0] & 0x80))
            die("bad control frame %02x %02x", c->header[0], c->header[1]);
        return;
    }
    int first = !c->in_message;
    int wanted = first ? (speaks_protobuf(c) ? BINARY : opcode) | (options.mode == COMPRESSED ? 0x40 : 0) : CONTINUATION;
    if (!c->hostile && (c->header[0] & 0x7f) != wanted)
        die("reply begins with %02x, expected %02x: %s", c->header[0] & 0x7f, wanted,
            (c->header[0] ^ wanted) & 0x40 ? "compressed or not" : "another opcode");
    if (c->text) {
        if (first)
            c->text_length = 0;
    } else if (options.mode == IDLE || (!c->hostile && number_of(c) >= (publisher ? publisher : c)->sent))
        die("unexpected message");
    if (first) {
        c->at = 0;
        c->look = options.size <= 1024 || c->received % 16 == 0;
        if (c->inflater) {
            c->inflater->next_out = inflated;
            c->inflater->avail_out = sizeof inflated;
        }
    }
    c->in_message = 1;
}

static void inflate_some(struct connection *c, const unsigned char *from, size_t size)
{
    c->inflater->next_in = (unsigned char *)from;
    c->inflater->avail_in = (unsigned)size;
    int outcome = inflate(c->inflater, Z_SYNC_FLUSH);
    if ((outcome != Z_OK && outcome != Z_BUF_ERROR && outcome != Z_STREAM_END) || c->inflater->avail_in)
        die("the reply cannot be decompressed: %s", c->inflater->msg ? c->inflater->msg : "too long");
}

static void payload(struct connection *c, const unsigned char *from, size_t size)
{
    if (c->header[0] & 8) {
        memcpy(c->control + (c->header[1] - c->left), from, size);
        return;
    }
    if (c->text) {
        keep_text(c, from, size);
    } else if (options.mode == COMMAND) {
        if (c->at == 0 && (from[0] < '0' || from[0] > '9'))
            die("the reply to `time` is %.*s", (int)size, from);
    } else if (options.mode == COMPRESSED) {
        if (c->inflater)
            inflate_some(c, from, size);
    } else if (c->at + size > options.size)
        die("the reply is longer than the message of %zu bytes", options.size);
    else if (c->look) {
        size_t skip = 0;
        if (stamped && c->at < 4) {
            uint32_t mark = stamp(number_of(c));
            skip = size < 4 - c->at ? size : 4 - c->at;
            if (memcmp(from, (unsigned char *)&mark + c->at, skip))
                die("reply %u is that to another message", c->received);
        }
        if (memcmp(from + skip, expected + c->at + skip, size - skip))
            die("the reply differs from the message");
    }
    c->at += size;
}

static void control_frame(struct connection *c)
{
    unsigned size = c->header[1];
    switch (c->header[0] & 15) {
    case CLOSE:
        if (c->hostile) {
            hostile_closed = 1;
            return;
        }
        if (c->state == CLOSING) {
            closed++;
            c->received_close = 1;
            return;
        }
        die("closed by the server: %d %.*s", size < 2 ? 1005 : c->control[0] << 8 | c->control[1],
            size < 2 ? 0 : (int)size - 2, c->control + 2);
    case PING:
        pings++;
        c->pong_length = put_frame(c->pong, 0x80 | PONG, c->control, size, c->mask);
        return;
    case PONG:
        return;
    default:
        die("unknown opcode %d", c->header[0] & 15);
    }
}

static void message_ends(struct connection *c)
{
    c->in_message = 0;
    if (c->hostile) {
        hostile_messages++;
        return;
    }
    if (c->text) {
        if (speaks_protobuf(c))
            take_protobuf(c);
        else
            take_lines(c);
        return;
    }
    if (options.mode == COMPRESSED && c->inflater) {
        unsigned v = c->received % VARIANTS;
        inflate_some(c, (const unsigned char *)"\0\0\xff\xff", 4);
        if (sizeof inflated - c->inflater->avail_out != variants[v].size ||
            memcmp(inflated, variants[v].text, variants[v].size))
            die("the decompressed reply differs from the message");
        if (c->fresh_window)
            inflateReset(c->inflater);
    } else if (options.mode == COMMAND || options.mode == COMPRESSED) {
        if (c->at == 0)
            die("empty reply");
    } else if (c->at != options.size)
        die("the reply has %zu bytes, the message has %zu", (size_t)c->at, options.size);
    if (measuring) {
        messages++;
        reply_bytes += c->at;
        const struct connection *sender = publisher ? publisher : c;
        record(now - (options.mode == LATENCY ? due_at(c) : sender->sent_at[number_of(c) % slots]));
    }
    if (options.mode == FANOUT)
        reached(number_of(c));
    else if (options.mode != LATENCY)
        c->owed++;
    c->received++;
}

static void take_frames(struct connection *c, const unsigned char *from, size_t size)
{
    while (size) {
        if (!c->in_payload) {
            while (size && c->header_have < header_length(c)) {
                c->header[c->header_have++] = *from++;
                size--;
            }
            if (c->header_have < 2 || c->header_have < header_length(c))
                return;
            frame_begins(c);
        }
        size_t part = size < c->left ? size : c->left;
        if (part)
            payload(c, from, part);
        from += part;
        size -= part;
        c->left -= part;
        if (c->left)
            return;
        c->in_payload = 0;
        c->header_have = 0;
        if (c->header[0] & 8)
            control_frame(c);
        else if (c->header[0] & 0x80)
            message_ends(c);
    }
}
