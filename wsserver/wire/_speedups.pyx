# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""
The compiled twin of `frames.py`: same functions, same results; never policy.

Every size and index that comes from the wire is checked here as if the peer were hostile: the compiler checks none.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* The compiler turns the wide loop into vector instructions. */
    static void ws_unmask(uint8_t *out, const uint8_t *in, uint64_t size, const uint8_t *mask) {
        uint8_t twice[8];
        memcpy(twice, mask, 4);
        memcpy(twice + 4, mask, 4);
        uint64_t wide, word, i = 0;
        memcpy(&wide, twice, 8);
        for (; i + 8 <= size; i += 8) {
            memcpy(&word, in + i, 8);
            word ^= wide;
            memcpy(out + i, &word, 8);
        }
        for (; i < size; i++) out[i] = in[i] ^ twice[i & 7];
    }

    /* How many bytes are whole characters of UTF-8 as RFC 3629 has it (no surrogates, nothing overlong, nothing above
       U+10FFFF) before the end or before a character that is cut off there; -1 if there is anything else. */
    static int64_t ws_utf8(const uint8_t *s, uint64_t n) {
        uint64_t i = 0;
        while (i < n) {
            uint64_t word;
            if (i + 8 <= n) {
                memcpy(&word, s + i, 8);
                if (!(word & 0x8080808080808080ULL)) { i += 8; continue; }
            }
            uint8_t c = s[i], low = 0x80, high = 0xBF;
            unsigned more, k;
            if (c < 0x80) { i++; continue; }
            if (c < 0xC2 || c > 0xF4) return -1;
            more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
            if (c == 0xE0) low = 0xA0;
            else if (c == 0xED) high = 0x9F;
            else if (c == 0xF0) low = 0x90;
            else if (c == 0xF4) high = 0x8F;
            for (k = 1; k <= more && i + k < n; k++) {
                if (s[i + k] < low || s[i + k] > high) return -1;
                low = 0x80, high = 0xBF;
            }
            if (k <= more) return (int64_t)i;
            i += more + 1;
        }
        return (int64_t)n;
    }
    """
    void ws_unmask(uint8_t *out, const uint8_t *data, uint64_t size, const uint8_t *mask)
    int64_t ws_utf8(const uint8_t *data, uint64_t size)

cdef enum:
    FIN_TEXT = 0x81
    FIN_BINARY = 0x82
    RSV1 = 0x40


def parse(bytes data not None, Py_ssize_t start, Py_ssize_t max_size, Py_ssize_t max_frames, bint compressed):
    """See `frames.py_parse`."""
    cdef const uint8_t *buffer = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data)
    cdef const uint8_t *p
    cdef uint8_t first, plain
    cdef uint64_t size, left
    cdef int header, i
    cdef bytes payload
    cdef list messages = []
    if start < 0:
        raise ValueError("start is negative")
    while max_frames > 0 and end - start >= 6:
        p = buffer + start
        left = <uint64_t>(end - start)
        first = p[0]
        plain = first & ~RSV1 if compressed else first
        if (plain != FIN_TEXT and plain != FIN_BINARY) or not p[1] & 0x80:
            break
        size = p[1] & 0x7F
        header = 6
        if size == 126:
            if left < 8:
                break
            size = (<uint64_t>p[2] << 8) | p[3]
            header = 8
            if size < 126:
                break
        elif size == 127:
            if left < 14:
                break
            size = 0
            for i in range(2, 10):
                size = (size << 8) | p[i]
            header = 14
            if size < 65536:
                break
        # Both sides unsigned: no sum that could overflow.
        if size > left - <uint64_t>header or max_size < 0 or size > <uint64_t>max_size:
            break
        payload = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        ws_unmask(<uint8_t *>PyBytes_AS_STRING(payload), p + header, size, p + header - 4)
        if first == FIN_TEXT and ws_utf8(<const uint8_t *>PyBytes_AS_STRING(payload), size) != <int64_t>size:
            break
        messages.append((payload, first))
        start += header + <Py_ssize_t>size
        max_frames -= 1
    return messages, start


def build(uint8_t first, bytes payload not None):
    """See `frames.py_build`."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef int header = 2 if size < 126 else 4 if size < 65536 else 10
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, header + size)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(frame)
    cdef int i
    out[0] = first
    if header == 2:
        out[1] = <uint8_t>size
    elif header == 4:
        out[1] = 126
        out[2] = <uint8_t>(size >> 8)
        out[3] = <uint8_t>(size & 0xFF)
    else:
        out[1] = 127
        for i in range(8):
            out[2 + i] = <uint8_t>((<uint64_t>size >> (56 - 8 * i)) & 0xFF)
    memcpy(out + header, PyBytes_AS_STRING(payload), size)
    return frame


def text_so_far(bytearray data not None, Py_ssize_t body, Py_ssize_t start):
    """See `frames.py_text_so_far`."""
    cdef const uint8_t *buffer = <const uint8_t *>PyByteArray_AS_STRING(data)
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(data) - body - start
    cdef uint8_t mask[4]
    cdef bytes payload
    cdef int64_t whole
    cdef int i
    if body < 4 or start < 0 or size < 0:
        raise ValueError("no such place")
    for i in range(4):
        mask[i] = buffer[body - 4 + ((start + i) & 3)]
    payload = PyBytes_FromStringAndSize(NULL, size)
    ws_unmask(<uint8_t *>PyBytes_AS_STRING(payload), buffer + body + start, <uint64_t>size, mask)
    whole = ws_utf8(<const uint8_t *>PyBytes_AS_STRING(payload), <uint64_t>size)
    return -1 if whole < 0 else start + whole
