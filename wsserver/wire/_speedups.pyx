# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""
Compiled versions of `frames.py`, `fastpath.py` and `wsserver.hub.delta`, and of the inner loops of `transport.py`,
`tls.py`, `poller.py` and `http11.py`.

The module contains no policy. The Python versions behave the same, and are used if this module is not compiled.

Check every size and index that is received from a peer; the compiler directives above turn its checks off.
Keep the GIL during system calls. None of them blocks, and releasing it costs as much as all other work.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from os import urandom

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    int resize_bytes "_PyBytes_Resize"(PyObject **bytes, Py_ssize_t size) except -1
    char *bytes_at "PyBytes_AS_STRING"(PyObject *bytes)

cdef extern from "string.h":
    void *memmem(const void *text, size_t size, const void *part, size_t length)

cdef extern from "sys/socket.h":
    int MSG_DONTWAIT, MSG_NOSIGNAL
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t recv(int fd, void *data, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)

cdef extern from "sys/epoll.h":
    ctypedef union epoll_data:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data data
    int epoll_wait(int epoll, epoll_event *events, int most, int timeout)

cdef extern from "sys/uio.h":
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* The compiler also makes a version with AVX2, and the dynamic linker chooses by the processor. */
    #if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__) && \
        !defined(__SANITIZE_ADDRESS__)
    #define WITH_AVX2 __attribute__((target_clones("avx2", "default")))
    #else
    #define WITH_AVX2
    #endif

    /* XOR with the masking key (RFC 6455 section 5.3). Return whether all bytes of the result are ASCII. The compiler
       turns the 8-byte loop into vector instructions. */
    WITH_AVX2 static int ws_unmask(uint8_t *out, const uint8_t *in, uint64_t size, const uint8_t *mask) {
        uint8_t twice[8];
        memcpy(twice, mask, 4);
        memcpy(twice + 4, mask, 4);
        uint64_t wide, word, any = 0, i = 0;
        memcpy(&wide, twice, 8);
        for (; i + 8 <= size; i += 8) {
            memcpy(&word, in + i, 8);
            word ^= wide;
            any |= word;
            memcpy(out + i, &word, 8);
        }
        for (; i < size; i++) any |= out[i] = in[i] ^ twice[i & 7];
        return !(any & 0x8080808080808080ULL);
    }

    /* Return the number of bytes that form complete UTF-8 characters; a character may be cut off at the end. Return -1
       if the bytes are not UTF-8 as in RFC 3629: no surrogates, nothing overlong, nothing above U+10FFFF. */
    WITH_AVX2 static int64_t ws_utf8(const uint8_t *s, uint64_t n) {
        uint64_t i = 0;
        while (i < n) {
            uint64_t word, some = 0, eight[8];
            if (i + 64 <= n) {
                memcpy(eight, s + i, 64);
                for (int k = 0; k < 8; k++) some |= eight[k];
                if (!(some & 0x8080808080808080ULL)) { i += 64; continue; }
            }
            if (i + 8 <= n) {
                memcpy(&word, s + i, 8);
                if (!(word & 0x8080808080808080ULL)) { i += 8; continue; }
            }
            uint8_t c = s[i], low = 0x80, high = 0xBF;
            unsigned more, k;
            if (c < 0x80) { i++; continue; }
            /* Shortcut for three-byte characters, of which most text that is not ASCII consists. */
            if (c > 0xE0 && c < 0xED && i + 3 <= n && (s[i + 1] & 0xC0) == 0x80 && (s[i + 2] & 0xC0) == 0x80) {
                i += 3;
                continue;
            }
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
    bint ws_unmask(uint8_t *out, const uint8_t *data, uint64_t size, const uint8_t *mask)
    int64_t ws_utf8(const uint8_t *data, uint64_t size)

cdef enum:
    FIN_TEXT = 0x81
    FIN_BINARY = 0x82
    RSV1 = 0x40
    OPEN = 3
    # The same values as in the Python modules.
    FRAMES_PER_TURN = 256
    LARGE = 8192
    RECORD = 16384
    PIECE = 65536
    ROOM = 98304
    READ_SIZE = 262144
    MIN_READ_SIZE = 16384
    BYTES_PER_BATCH = 4194304
    MAX_EVENTS = 1024
    MAX_NAME = 256
    MIN_SAVING = 16
    BLOCK = 16
    MIN_COPY = 12
    MAX_CANDIDATES = 8
    NEAR = 32
    GOOD_COPY = 128
    MAX_INSERT = 65536
    MAX_COMPARISONS = 20000
    MAX_DELTA_SIZE = 16777216
    IN = 1
    OUT = 4


cdef int head(const uint8_t *p, uint64_t left, uint64_t limit, bint compressed, uint64_t *size) noexcept:
    """See `frames.py_head`."""
    cdef uint8_t plain
    cdef int i
    if left < 6:
        return -1
    plain = p[0] & ~RSV1 if compressed else p[0]
    if (plain != FIN_TEXT and plain != FIN_BINARY) or not p[1] & 0x80:
        return 0
    size[0] = p[1] & 0x7F
    if size[0] < 126:
        return 6 if size[0] <= limit else 0
    if size[0] == 126:
        if left < 8:
            return -1
        size[0] = (<uint64_t>p[2] << 8) | p[3]
        return 8 if 126 <= size[0] <= limit else 0
    if left < 14:
        return -1
    size[0] = 0
    for i in range(2, 10):
        size[0] = (size[0] << 8) | p[i]
    return 14 if 65536 <= size[0] <= limit else 0


cdef bytes unmasked(const uint8_t *p, int header, uint64_t size):
    """Return the unmasked payload of a complete frame; None if it is a text frame and not UTF-8."""
    cdef bytes payload = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(payload)
    if not ws_unmask(out, p + header, size, p + header - 4) and p[0] == FIN_TEXT:
        if ws_utf8(out, size) != <int64_t>size:
            return None
    return payload


def parse(bytes data not None, Py_ssize_t start, Py_ssize_t max_size, Py_ssize_t max_frames, bint compressed):
    """See `frames.py_parse`."""
    cdef const uint8_t *buffer = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data)
    cdef uint64_t size = 0
    cdef int header
    cdef bytes payload
    cdef list messages = []
    if start < 0:
        raise ValueError("start is negative")
    while max_frames > 0 and start < end and max_size >= 0:
        header = head(buffer + start, <uint64_t>(end - start), <uint64_t>max_size, compressed, &size)
        # Unsigned, and without a sum of values from the peer, which could overflow.
        if header <= 0 or size > <uint64_t>(end - start - header):
            break
        payload = unmasked(buffer + start, header, size)
        if payload is None:
            break
        messages.append((payload, buffer[start]))
        start += header + <Py_ssize_t>size
        max_frames -= 1
    return messages, start


cdef int put_header(uint8_t *out, uint8_t first, uint64_t size) noexcept:
    cdef int i
    out[0] = first
    if size < 126:
        out[1] = <uint8_t>size
        return 2
    if size < 65536:
        out[1] = 126
        out[2] = <uint8_t>(size >> 8)
        out[3] = <uint8_t>(size & 0xFF)
        return 4
    out[1] = 127
    for i in range(8):
        out[2 + i] = <uint8_t>((size >> (56 - 8 * i)) & 0xFF)
    return 10


cpdef bytes build(uint8_t first, bytes payload):
    """See `frames.py_build`."""
    if payload is None:
        raise TypeError("payload must be bytes, not NoneType")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef uint8_t header[10]
    cdef int length = put_header(header, first, <uint64_t>size)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, length + size)
    memcpy(PyBytes_AS_STRING(frame), header, length)
    memcpy(PyBytes_AS_STRING(frame) + length, PyBytes_AS_STRING(payload), size)
    return frame


cdef class Partial:
    """See `frames.PyPartial`."""

    cdef PyObject *payload
    """The unmasked payload received so far: a bytes object without other references, so that it can be resized."""
    cdef Py_ssize_t room, have, size, checked
    cdef int header
    cdef uint8_t start[14]

    def __cinit__(self, bytes start not None, Py_ssize_t size):
        cdef Py_ssize_t header = PyBytes_GET_SIZE(start)
        if not 6 <= header <= 14 or size < 0:
            raise ValueError("invalid frame header or size")
        memcpy(self.start, PyBytes_AS_STRING(start), header)
        self.header, self.size = <int>header, size
        self.payload = new_bytes(NULL, 0)

    def __dealloc__(self):
        Py_XDECREF(self.payload)

    cdef Py_ssize_t take(self, const uint8_t *p, Py_ssize_t left) except -1:
        cdef Py_ssize_t more = min(left, self.size - self.have)
        cdef uint8_t mask[4]
        cdef uint8_t *out
        cdef int64_t whole
        cdef bint is_ascii
        cdef int i
        if self.payload is NULL or more < 0:
            raise ValueError("the payload has been taken")
        if self.have + more > self.room:
            # Allocate at most 16 times the bytes received, so that a large declared size alone costs no memory; the
            # pages not written to take none either. With these steps, growing hardly ever copies.
            self.room = self.size if self.size // 16 <= self.have + more else 4 * (self.have + more)
            resize_bytes(&self.payload, self.room)
        for i in range(4):
            mask[i] = self.start[self.header - 4 + ((self.have + i) & 3)]
        out = <uint8_t *>bytes_at(self.payload)
        is_ascii = ws_unmask(out + self.have, p, <uint64_t>more, mask)
        if is_ascii and self.checked == self.have:
            self.checked += more
        self.have += more
        if self.start[0] == FIN_TEXT and 0 <= self.checked < self.have:
            whole = ws_utf8(out + self.checked, <uint64_t>(self.have - self.checked))
            self.checked = -1 if whole < 0 else self.checked + <Py_ssize_t>whole
        return more

    def feed(self, bytes data not None, Py_ssize_t start):
        """See `frames.PyPartial.feed`."""
        if not 0 <= start <= PyBytes_GET_SIZE(data):
            raise ValueError("start is out of range")
        return start + self.take(<const uint8_t *>PyBytes_AS_STRING(data) + start, PyBytes_GET_SIZE(data) - start)

    @property
    def complete(self):
        """See `frames.PyPartial.complete`."""
        return self.payload is not NULL and self.have == self.size

    @property
    def valid(self):
        """See `frames.PyPartial.valid`."""
        return self.is_valid()

    cdef bint is_valid(self) noexcept:
        if self.start[0] != FIN_TEXT:
            return True
        if self.payload is not NULL and self.have == self.size:
            return self.checked == self.size
        return self.checked >= 0

    @property
    def received(self):
        """See `frames.PyPartial.received`."""
        return self.have

    @property
    def first(self):
        """See `frames.PyPartial.first`."""
        return self.start[0]

    cpdef bytes whole(self):
        """See `frames.PyPartial.whole`."""
        if self.payload is NULL or self.have != self.size:
            raise ValueError("the frame is not complete")
        if self.room != self.size:
            resize_bytes(&self.payload, self.size)
        payload = <bytes><object>self.payload
        Py_XDECREF(self.payload)
        self.payload = NULL
        return payload

    def raw(self):
        """See `frames.PyPartial.raw`."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, self.header + self.have)
        cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(data)
        if self.payload is NULL:
            raise ValueError("the payload has been taken")
        memcpy(out, self.start, self.header)
        ws_unmask(out + self.header, <const uint8_t *>bytes_at(self.payload), <uint64_t>self.have,
                  self.start + self.header - 4)
        return data


cdef inline bytes as_bytes(data):
    """Return data as an object of exactly the type `bytes`, and refuse other types."""
    if type(data) is bytes:
        return data
    if not isinstance(data, bytes):
        raise TypeError("Data must be bytes")
    return bytes(data)


cdef inline write_to(transport, bytes data):
    """Write to a transport, without a call of a Python method if it is compiled."""
    if isinstance(transport, WriteThrough):
        (<WriteThrough>transport).put(data)
    elif isinstance(transport, TLSFastPath):
        (<TLSFastPath>transport).put(data)
    else:
        transport.write(data)


cdef class Output:
    """See `fastpath.PyOutput`."""

    cdef public object transport
    cdef public bint _writable
    cdef public uint64_t messages_in, bytes_in, messages_out, bytes_out

    cdef write(self, bytes data):
        write_to(self.transport, data)


cdef class FastPath(Output):
    """See `fastpath.PyFastPath`."""

    cdef public int state
    cdef public bint _plain, _compressed, _metered
    cdef public Py_ssize_t _limit, _compress_from
    cdef public object _partial, autoPingTimeoutCall
    cdef bint corked
    """Whether frames are collected. The first one is kept in `first_frame`; a list, `corked_frames`, replaces it."""
    cdef bytes first_frame
    cdef list corked_frames
    cdef bint _direct
    """Whether a transport may call `serve` instead of `dataReceived`: no subclass overrides `dataReceived`."""
    cdef bint _echoes
    """Whether `onMessage` of the class is `sendMessage`, which can then be called without creating Python objects."""

    def __init__(self):
        self.state = 1
        self._limit = self.maxMessagePayloadSize
        self._direct = type(self).dataReceived is FastPath.dataReceived
        self._echoes = getattr(type(self), "onMessage", None) is FastPath.sendMessage

    def dataReceived(self, bytes data not None):
        """See `fastpath.PyFastPath.dataReceived`."""
        self.serve(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef int serve(self, const uint8_t *p, Py_ssize_t end) except -1:
        cdef Py_ssize_t budget = FRAMES_PER_TURN, start = 0
        self.uncork()
        self.corked = True
        if self._metered:
            budget = self._frames_allowed(end)
        if self._plain:
            start = self.fast(p, 0, end, &budget)
        if start < end:
            self._slow(PyBytes_FromStringAndSize(<const char *>p + start, end - start), budget)
        self.uncork()
        return 0

    def _fast(self, bytes data not None, Py_ssize_t start, Py_ssize_t budget):
        """See `fastpath.PyFastPath._fast`."""
        if not 0 <= start <= PyBytes_GET_SIZE(data):
            raise ValueError("start is out of range")
        start = self.fast(<const uint8_t *>PyBytes_AS_STRING(data), start, PyBytes_GET_SIZE(data), &budget)
        return start, budget

    cdef Py_ssize_t fast(self, const uint8_t *p, Py_ssize_t start, Py_ssize_t end, Py_ssize_t *budget) except -1:
        cdef Partial partial
        cdef bytes payload
        cdef uint64_t size = 0
        cdef int header, first
        cdef bint any_message = False
        while start < end and budget[0] > 0 and self._plain and self._limit >= 0:
            partial = self._partial
            if partial is None:
                header = head(p + start, <uint64_t>(end - start), <uint64_t>self._limit, self._compressed, &size)
                if header <= 0:
                    break
                if size > <uint64_t>(end - start - header):
                    if self._compressed:
                        break
                    self._partial = Partial(
                        PyBytes_FromStringAndSize(<const char *>p + start, header), <Py_ssize_t>size
                    )
                    self._message_begun()
                    start += header
                    continue
                first = p[start]
                payload = unmasked(p + start, header, size)
                if payload is None:
                    break
                start += header + <Py_ssize_t>size
            else:
                start += partial.take(p + start, end - start)
                if not partial.is_valid():
                    self._give_up_partial()
                    break
                if partial.have < partial.size:
                    continue
                first = partial.start[0]
                payload = partial.whole()
                self._partial = None
            budget[0] -= 1
            if self.dispatch(payload, first):
                any_message = True
            if self._metered and self._compressed:
                budget[0] = min(budget[0], <Py_ssize_t>self._frames_allowed(0))
        # As in Autobahn, any data frame counts as a pong.
        if any_message and self.autoPingTimeoutCall is not None:
            self._cancel_ping_timeout()
        return start

    def _dispatch(self, bytes payload not None, int first):
        """See `fastpath.PyFastPath._dispatch`."""
        return bool(self.dispatch(payload, first))

    cdef int dispatch(self, bytes payload, int first) except -1:
        try:
            if first > FIN_BINARY:
                payload = self._inflate(payload, first)
                if payload is None:
                    return 0
                first ^= RSV1
            self.messages_in += 1
            self.bytes_in += <uint64_t>PyBytes_GET_SIZE(payload)
            if self._echoes:
                self.send(payload, first, True)
            else:
                self.onMessage(payload, first == FIN_BINARY)
        except Exception:
            self._endpoint_failed()
        return 1

    def sendMessage(self, payload, isBinary=False, fragmentSize=None, sync=False, doNotCompress=False):
        """See `fastpath.PyFastPath.sendMessage`."""
        if self.state != OPEN:
            return
        if type(payload) is not bytes:
            if not isinstance(payload, bytes):
                raise TypeError(f"payload must be bytes, not {type(payload).__name__}")
            payload = bytes(payload)
        if fragmentSize is not None or sync:
            self._send_in_parts(payload, isBinary, fragmentSize, sync, doNotCompress)
            return
        self.send(payload, FIN_BINARY if isBinary else FIN_TEXT, not doNotCompress)

    cdef send(self, bytes body, int first, bint may_compress):
        cdef bytes frame
        cdef bint corked
        if self.state != OPEN:
            return
        self.messages_out += 1
        self.bytes_out += <uint64_t>PyBytes_GET_SIZE(body)
        if self._compressed and may_compress and PyBytes_GET_SIZE(body) >= self._compress_from:
            first |= RSV1
            body = self._deflate(body)
        if PyBytes_GET_SIZE(body) >= LARGE:
            corked = self.corked
            self.uncork()
            self.write_large(first, body)
            self.corked = corked
            return
        frame = build(<uint8_t>first, body)
        if not self.corked:
            self.write(frame)
        elif self.first_frame is None and self.corked_frames is None:
            self.first_frame = frame
        else:
            self._cork.append(frame)

    @property
    def _cork(self):
        """See `fastpath.PyFastPath.__init__`. There is a list only if it is used: most reads produce one frame."""
        if self.corked and self.corked_frames is None:
            self.corked_frames = [] if self.first_frame is None else [self.first_frame]
            self.first_frame = None
        return self.corked_frames

    @_cork.setter
    def _cork(self, list frames):
        self.corked, self.corked_frames, self.first_frame = frames is not None, frames, None

    def _uncork(self):
        """See `fastpath.PyFastPath._uncork`."""
        self.uncork()

    cdef uncork(self):
        cdef list frames = self.corked_frames
        cdef bytes frame = self.first_frame
        self.corked, self.corked_frames, self.first_frame = False, None, None
        if frame is not None:
            self.write(frame)
        elif frames is not None and len(frames):
            self.write(frames[0] if len(frames) == 1 else b"".join(frames))

    cdef write_large(self, int first, bytes payload):
        cdef uint8_t header[10]
        cdef int length = put_header(header, <uint8_t>first, <uint64_t>PyBytes_GET_SIZE(payload))
        transport = self.transport
        if isinstance(transport, WriteThrough):
            (<WriteThrough>transport).put_two(PyBytes_FromStringAndSize(<const char *>header, length), payload)
        else:
            transport.write(build(<uint8_t>first, payload))


cdef uint8_t received[READ_SIZE]
cdef bint receiving = False
# See `poller.Reading`.
cdef size_t read_size = READ_SIZE


cdef class WriteThrough:
    """See `transport.PyWriteThrough`."""

    cdef public int watched, _fd
    cdef public bint _direct, _broken
    cdef public object protocol

    def doRead(self):
        """See `transport.PyWriteThrough.doRead`."""
        return self.read()

    cdef read(self):
        global receiving
        cdef ssize_t size
        cdef int error
        # The shared buffer is in use if this is called while another connection's read is being served.
        if self._fd < 0 or receiving:
            return self._read_by_socket()
        size = recv(self._fd, received, read_size, MSG_DONTWAIT)
        error = errno
        if size > 0:
            protocol = self.protocol
            receiving = True
            try:
                if isinstance(protocol, FastPath) and (<FastPath>protocol)._direct:
                    (<FastPath>protocol).serve(received, size)
                elif isinstance(protocol, TLSFastPath) and (<TLSFastPath>protocol).direct:
                    (<TLSFastPath>protocol).receive(received, size)
                else:
                    protocol.dataReceived(PyBytes_FromStringAndSize(<const char *>received, size))
            finally:
                receiving = False
            return None
        if size < 0 and (error == EAGAIN or error == EINTR):
            return None
        return self._ended(size == 0)

    def write(self, data):
        """See `transport.PyWriteThrough.write`."""
        self.put(as_bytes(data))

    cdef put(self, bytes data):
        cdef ssize_t sent
        cdef int error
        if self.watched & OUT or not self._direct:
            self._queue(data)
        elif self._fd < 0:
            self._write_by_socket(data)
        else:
            sent = send(self._fd, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)
            error = errno
            if sent != PyBytes_GET_SIZE(data):
                if self.refused(sent, error):
                    self._queue_rest(data, max(sent, 0))

    cdef bint refused(self, ssize_t sent, int error) except -1:
        """Return whether an incomplete write can be continued later; if not, the connection is broken."""
        if sent < 0 and error != EAGAIN and error != ENOBUFS and error != EINTR:
            self._break()
            return False
        return True

    cdef put_two(self, bytes header, bytes payload):
        """Send a header and a payload with one system call, without copying them into one object."""
        cdef iovec pieces[2]
        cdef msghdr message
        cdef ssize_t sent
        cdef Py_ssize_t length = PyBytes_GET_SIZE(header)
        cdef int error
        if self._fd < 0 or self.watched & OUT or not self._direct:
            # One write, because a producer that is paused between two writes may write a message of its own.
            self.put(header + payload)
            return
        pieces[0].iov_base, pieces[0].iov_len = PyBytes_AS_STRING(header), <size_t>length
        pieces[1].iov_base, pieces[1].iov_len = PyBytes_AS_STRING(payload), <size_t>PyBytes_GET_SIZE(payload)
        memset(&message, 0, sizeof(message))
        message.msg_iov, message.msg_iovlen = pieces, 2
        sent = sendmsg(self._fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        error = errno
        if sent == length + PyBytes_GET_SIZE(payload) or not self.refused(sent, error):
            return
        if sent < length:
            self._queue_rest(header, max(sent, 0))
            self._queue(payload)
        else:
            self._queue_rest(payload, sent - length)


ctypedef int (*openssl_move)(void *bio_or_ssl, const void *data, int size) noexcept
ctypedef long (*openssl_measure)(void *bio, char **data) noexcept

cdef openssl_move call_bio_read, call_bio_write, call_ssl_read, call_ssl_write
cdef openssl_measure call_bio_size
cdef uint8_t *plaintext
cdef object address_of


def use_openssl(
    address, size_t buffer, *, size_t bio_read, size_t bio_write, size_t bio_size, size_t ssl_read, size_t ssl_write
):
    """
    Set the addresses of OpenSSL's functions; see `tls._find_addresses`.

    Args:
        address: returns the address of an object of OpenSSL.
        buffer: address of a buffer with `ROOM` bytes, for plaintext; never freed.
        bio_read: address of `BIO_read`. The other arguments are the addresses of the functions with their names.
    """
    global call_bio_read, call_bio_write, call_bio_size, call_ssl_read, call_ssl_write, plaintext, address_of
    call_bio_read, call_bio_write, call_bio_size = (
        <openssl_move>bio_read, <openssl_move>bio_write, <openssl_measure>bio_size
    )
    call_ssl_read, call_ssl_write = <openssl_move>ssl_read, <openssl_move>ssl_write
    plaintext, address_of = <uint8_t *>buffer, address


cdef class TLSFastPath:
    """See `tls.PyTLSFastPath`."""

    cdef readonly object _ssl, _into, _out
    cdef public object transport, wrappedProtocol
    cdef public list _appSendBuffer
    cdef public bint disconnecting
    cdef bint direct
    """Whether a transport may call `receive` instead of `dataReceived`: no subclass overrides `dataReceived`."""
    cdef void *ssl
    """Valid while `_ssl` is not None; so are the BIOs, which belong to it."""
    cdef void *into
    cdef void *out

    def _begin(self, ssl, into, out):
        """See `tls.PyTLSFastPath._begin`."""
        self.ssl, self.into, self.out = (
            <void *><size_t>address_of(ssl), <void *><size_t>address_of(into), <void *><size_t>address_of(out)
        )
        self._ssl, self._into, self._out = ssl, into, out
        self.direct = type(self).dataReceived is TLSFastPath.dataReceived

    def _stop(self):
        """See `tls.PyTLSFastPath._stop`."""
        self._ssl = self._into = self._out = None

    def dataReceived(self, bytes data not None):
        """See `tls.PyTLSFastPath.dataReceived`."""
        self.receive(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef int receive(self, const uint8_t *p, Py_ssize_t size) except -1:
        cdef int count
        cdef bytes plain
        if self._ssl is None or self._appSendBuffer or size > PIECE:
            self._receive_slowly(PyBytes_FromStringAndSize(<const char *>p, size))
            return 0
        call_bio_write(self.into, p, <int>size)
        count = call_ssl_read(self.ssl, plaintext, ROOM)
        if count <= 0 or call_bio_size(self.into, NULL):
            self._read_on(count)
            return 0
        # Copied: the protocol may cause a read from another connection, which overwrites the buffer.
        plain = PyBytes_FromStringAndSize(<const char *>plaintext, count)
        wrapped = self.wrappedProtocol
        if isinstance(wrapped, FastPath) and (<FastPath>wrapped)._direct:
            (<FastPath>wrapped).serve(<const uint8_t *>PyBytes_AS_STRING(plain), count)
        else:
            wrapped.dataReceived(plain)
        if self._ssl is not None:
            self.flush()
        return 0

    def write(self, data):
        """See `tls.PyTLSFastPath.write`."""
        self.put(as_bytes(data))

    cdef put(self, bytes data):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef int sent
        if self._ssl is None or self.disconnecting or self._appSendBuffer or not 0 < size <= RECORD:
            self._write_slowly(data)
            return
        sent = call_ssl_write(self.ssl, PyBytes_AS_STRING(data), <int>size)
        if sent > 0:
            self.flush()
        if sent != size:
            self._write_rest(data, max(sent, 0))

    def _flush(self):
        """See `tls.PyTLSFastPath._flush`."""
        if self._out is not None:
            self.flush()

    cdef flush(self):
        cdef int size = <int>min(call_bio_size(self.out, NULL), <long>ROOM)
        cdef bytes data
        if size <= 0:
            return
        data = PyBytes_FromStringAndSize(NULL, size)
        call_bio_read(self.out, PyBytes_AS_STRING(data), size)
        write_to(self.transport, data)


cdef class Feed:
    """See `fastpath.PyFeed`."""

    cdef public object connection

    def __init__(self, connection):
        self.connection = connection


def write_all(list subscribers not None, bytes frames not None, uint64_t count, uint64_t size, failed):
    """See `fastpath.py_write_all`."""
    cdef FastPath connection
    cdef list others = []
    for one in subscribers:
        it = (<Feed>one).connection if isinstance(one, Feed) else one
        if not isinstance(it, Output) or not (<Output>it)._writable:
            others.append(one)
            continue
        if isinstance(it, FastPath):
            connection = <FastPath>it
            if connection.state != OPEN or connection.corked:
                others.append(one)
                continue
        (<Output>it).messages_out += count
        (<Output>it).bytes_out += size
        try:
            (<Output>it).write(frames)
        except Exception:
            failed(one)
    return others


def sum_messages(list connections not None):
    """See `fastpath.py_sum_messages`."""
    cdef FastPath connection
    cdef uint64_t messages_in = 0, bytes_in = 0, messages_out = 0, bytes_out = 0
    for one in connections:
        if isinstance(one, FastPath):
            connection = <FastPath>one
            messages_in += connection.messages_in
            bytes_in += connection.bytes_in
            messages_out += connection.messages_out
            bytes_out += connection.bytes_out
    return messages_in, bytes_in, messages_out, bytes_out


cpdef serve_event(int fd, uint32_t what, dict watched, set fresh, other, failed, disconnect):
    """See `poller.py_serve_event`."""
    cdef PyObject *entry = PyDict_GetItemWithError(watched, fd)
    if entry is NULL or (fresh and fd in fresh):
        return
    one = <object>entry
    if not isinstance(one, WriteThrough) or what != IN or not (<WriteThrough>one).watched & IN:
        other(one, what)
        return
    try:
        why = (<WriteThrough>one).read()
    except BaseException:
        failed(one)
    else:
        if why is not None:
            disconnect(one, why, read=True)


def serve(epoll, int most, dict watched not None, set fresh not None, other, failed, disconnect, int waiting):
    """See `poller.py_serve`."""
    global read_size
    cdef epoll_event events[MAX_EVENTS]
    cdef int number, count = epoll_wait(epoll.fileno(), events, min(most, <int>MAX_EVENTS), 0)
    if count < 0 and errno != EINTR:
        raise OSError(errno, "reading events from epoll failed")
    read_size = max(<size_t>MIN_READ_SIZE, min(<size_t>READ_SIZE, <size_t>(BYTES_PER_BATCH // max(count + waiting, 1))))
    for number in range(count):
        serve_event(events[number].data.fd, events[number].events, watched, fresh, other, failed, disconnect)


cdef uint8_t token[256]
token[:] = [0] * 256
for c in bytearray(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"):
    # The byte in lower case; 0 if it does not belong to a token.
    token[c] = c + 32 if 65 <= c <= 90 else c


cdef inline bint ends_line(const char *p, Py_ssize_t at, Py_ssize_t size) noexcept:
    """Return whether a line ends at an index: with CRLF, or with the end of the head."""
    return at == size or (at + 1 < size and p[at] == 13 and p[at + 1] == 10)


cdef Py_ssize_t read_field(const char *p, Py_ssize_t at, Py_ssize_t size, list headers, dict last) except -2:
    """Read a header line; return the index after it. Return -1 if it is invalid."""
    cdef char name[MAX_NAME]
    cdef Py_ssize_t length = 0, start, end
    cdef uint8_t c
    while at < size and length < MAX_NAME and token[<uint8_t>p[at]]:
        name[length] = token[<uint8_t>p[at]]
        length += 1
        at += 1
    if not length or at >= size or p[at] != 58:
        return -1
    at += 1
    while at < size and (p[at] == 32 or p[at] == 9):
        at += 1
    start = at
    while at < size:
        c = p[at]
        if (c < 32 and c != 9) or c == 127:
            break
        at += 1
    if not ends_line(p, at, size):
        return -1
    end = at
    while end > start and (p[end - 1] == 32 or p[end - 1] == 9):
        end -= 1
    field = PyUnicode_DecodeLatin1(name, length, NULL), PyUnicode_DecodeLatin1(p + start, end - start, NULL)
    headers.append(field)
    last[field[0]] = field[1]
    return at + 2


def split_head(bytes head not None):
    """See `http11.py_split_head`."""
    cdef const char *p = PyBytes_AS_STRING(head)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(head), at = 0, start, end
    while at < size and token[<uint8_t>p[at]]:
        at += 1
    if not 1 <= at <= 32 or at >= size or p[at] != 32:
        return None
    method = PyUnicode_DecodeLatin1(p, at, NULL)
    at += 1
    start = at
    while at < size and 33 <= <uint8_t>p[at] <= 126:
        at += 1
    end = at
    if end == start or size - at < 9 or memcmp(p + at, b" HTTP/", 6) or p[at + 7] != 46:
        return None
    if not (48 <= p[at + 6] <= 57 and 48 <= p[at + 8] <= 57 and ends_line(p, at + 9, size)):
        return None
    version = p[at + 6] - 48, p[at + 8] - 48
    at += 11
    headers = []
    last = {}
    while at < size:
        at = read_field(p, at, size, headers, last)
        if at < 0:
            return None
    return method, PyUnicode_DecodeLatin1(p + start, end - start, NULL), version, tuple(headers), last


# Deltas. The functions and constants have the names of those in `wsserver.hub.delta`.

cdef struct Delta:
    uint8_t *out
    # Size of `out`; -1 once the delta did not fit. Nothing more is written then.
    Py_ssize_t room
    # Size of the delta so far.
    Py_ssize_t size


cdef struct Index:
    # The places of the blocks of the earlier text, sorted by bucket and place. `starts` has the first index of each
    # bucket. A bucket has the blocks whose content has the same hash.
    int32_t *places
    uint32_t *starts
    uint64_t mask


cdef const char *DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
cdef uint64_t[5] hash_key
for number in range(5):
    hash_key[number] = int.from_bytes(urandom(8), "little")


cdef inline uint64_t bucket(const Index *index, const uint8_t *block) noexcept:
    """
    Return the bucket of a block.

    The key is secret and the function is universal, so nobody can make different blocks that share a bucket. Source:
    "pair-multiply-shift" in M. Thorup, High Speed Hashing for Integers and Strings, https://arxiv.org/abs/1504.06804
    """
    cdef uint32_t[4] words
    memcpy(words, block, BLOCK)
    return (
        (hash_key[0] + words[1]) * (hash_key[1] + words[0])
        + (hash_key[2] + words[3]) * (hash_key[3] + words[2])
        + hash_key[4]
    ) >> 32 & index.mask


cdef bint fill(Index *index, const uint8_t *base, Py_ssize_t start, Py_ssize_t count) noexcept:
    """Index the `count` blocks from `start`; return False if there is not enough memory."""
    cdef Py_ssize_t number, buckets = 1
    cdef uint64_t found
    while buckets < 2 * count:
        buckets *= 2
    index.mask = buckets - 1
    index.places = <int32_t *>PyMem_Malloc((count or 1) * sizeof(int32_t))
    index.starts = <uint32_t *>PyMem_Malloc((buckets + 1) * sizeof(uint32_t))
    if not index.places or not index.starts:
        return False
    memset(index.starts, 0, (buckets + 1) * sizeof(uint32_t))
    for number in range(count):
        index.starts[bucket(index, base + start + number * BLOCK)] += 1
    for number in range(buckets):
        index.starts[number + 1] += index.starts[number]
    # Backwards, because each bucket is filled from its end, which becomes its start.
    for number in range(count - 1, -1, -1):
        found = bucket(index, base + start + number * BLOCK)
        index.starts[found] -= 1
        index.places[index.starts[found]] = start + number * BLOCK
    return True


cdef void put(Delta *delta, const uint8_t *content, Py_ssize_t size) noexcept:
    if size <= delta.room - delta.size:
        memcpy(delta.out + delta.size, content, size)
        delta.size += size
    else:
        delta.room = -1


cdef void put_number(Delta *delta, uint64_t value, const char *end) noexcept:
    """Append a number and the character that ends it."""
    cdef uint8_t digits[12]
    cdef int at = 11
    digits[at] = end[0]
    while True:
        at -= 1
        digits[at] = DIGITS[value & 63]
        value >>= 6
        if not value:
            break
    put(delta, digits + at, 12 - at)


cdef void put_copy(Delta *delta, Py_ssize_t place, Py_ssize_t size) noexcept:
    put_number(delta, size, b"@")
    put_number(delta, place, b",")


cdef void put_insert(Delta *delta, const uint8_t *content, Py_ssize_t size) noexcept:
    if size:
        put_number(delta, size, b":")
        put(delta, content, size)


cdef Py_ssize_t common(const uint8_t *a, const uint8_t *b, Py_ssize_t most) noexcept:
    cdef Py_ssize_t equal = 0
    while equal + 8 <= most and not memcmp(a + equal, b + equal, 8):
        equal += 8
    while equal < most and a[equal] == b[equal]:
        equal += 1
    return equal


cdef Py_ssize_t common_back(const uint8_t *a, const uint8_t *b, Py_ssize_t most) noexcept:
    cdef Py_ssize_t equal = 0
    while equal + 8 <= most and not memcmp(a - equal - 8, b - equal - 8, 8):
        equal += 8
    while equal < most and a[-equal - 1] == b[-equal - 1]:
        equal += 1
    return equal


cdef void align(const uint8_t *target, Py_ssize_t size, Py_ssize_t *first, Py_ssize_t *last) noexcept:
    cdef int step
    for step in range(3):
        if first[0] < last[0] and target[first[0]] & 0xC0 == 0x80:
            first[0] += 1
        if first[0] < last[0] < size and target[last[0]] & 0xC0 == 0x80:
            last[0] -= 1


cdef uint32_t checksum(const uint8_t *text, Py_ssize_t size) noexcept:
    cdef uint32_t total = 0
    cdef Py_ssize_t at
    for at in range(size):
        total += <uint32_t>text[at] << (24 - 8 * (at & 3))
    return total


cdef Py_ssize_t find_places(
    const Index *index, const uint8_t *base, const uint8_t *block, Py_ssize_t expected, Py_ssize_t *places
) noexcept:
    """Write the places of the blocks to compare; return their number."""
    cdef uint64_t found = bucket(index, block)
    cdef int64_t begin = index.starts[found], end = index.starts[found + 1], low = begin, high = end, middle, entry
    cdef Py_ssize_t count = 0, after
    while low < high:
        middle = (low + high) // 2
        if index.places[middle] < expected:
            low = middle + 1
        else:
            high = middle
    entry = low
    while entry < end and count < MAX_CANDIDATES:
        if not memcmp(base + index.places[entry], block, BLOCK):
            places[count] = index.places[entry]
            count += 1
        entry += 1
    after, entry = count, low - 1
    while entry >= begin and count < after + MAX_CANDIDATES:
        if not memcmp(base + index.places[entry], block, BLOCK):
            places[count] = index.places[entry]
            count += 1
        entry -= 1
    return count


cdef void put_between(
    Delta *delta, const Index *index, const uint8_t *base, Py_ssize_t base_size, const uint8_t *target,
    Py_ssize_t size, Py_ssize_t start, Py_ssize_t end
) noexcept:
    """See `wsserver.hub.delta._between`."""
    cdef Py_ssize_t done = start, at = start, shift = 0, left = MAX_COMPARISONS
    cdef Py_ssize_t expected, low, high, place, first, last, best_start, best_end, source, back, forward
    cdef Py_ssize_t number, count
    # The place near the expected one, if any, comes first.
    cdef Py_ssize_t[1 + 2 * MAX_CANDIDATES] places
    cdef const uint8_t *near
    while at + BLOCK <= end and left > 0 and at - done <= MAX_INSERT and delta.room >= 0:
        expected = at + shift
        count = 1 + find_places(index, base, target + at, expected, places + 1)
        if count == 1:
            at += 1
            continue
        low, high = max(expected - NEAR, <Py_ssize_t>0), min(expected + NEAR, base_size)
        near = <const uint8_t *>memmem(base + low, high - low, target + at, BLOCK) if high - low >= BLOCK else NULL
        if near:
            places[0] = near - base
        best_start = best_end = source = at
        for number in range(0 if near else 1, count):
            place = places[number]
            back = common_back(base + place, target + at, min(place, at - done))
            forward = BLOCK + common(
                base + place + BLOCK, target + at + BLOCK, min(base_size - place, end - at) - BLOCK
            )
            left -= 1
            if back + forward > best_end - best_start:
                best_start, best_end, source = at - back, at + forward, place - back
            if best_end == end or best_end - best_start >= GOOD_COPY:
                break
        first, last = best_start, best_end
        align(target, size, &first, &last)
        if last - first < MIN_COPY:
            at += BLOCK
            continue
        source += first - best_start
        put_insert(delta, target + done, first - done)
        put_copy(delta, source, last - first)
        done = at = last
        shift = source - first
    put_insert(delta, target + done, end - done)


def create_delta(bytes base not None, bytes target not None):
    """See `wsserver.hub.delta.py_create_delta`."""
    cdef const uint8_t *a = <const uint8_t *>PyBytes_AS_STRING(base)
    cdef const uint8_t *b = <const uint8_t *>PyBytes_AS_STRING(target)
    cdef Py_ssize_t base_size = PyBytes_GET_SIZE(base), size = PyBytes_GET_SIZE(target), start = 0, end = size, none = 0
    cdef Py_ssize_t shorter = min(base_size, size), last = size, blocks = 0
    cdef Index index = Index(NULL, NULL, 0)
    cdef Delta delta = Delta(NULL, size - MIN_SAVING, 0)
    if delta.room <= 0 or max(base_size, size) > MAX_DELTA_SIZE:
        return None
    start = common(a, b, shorter)
    align(b, size, &none, &start)
    if start < MIN_COPY:
        start = 0
    end = size - common_back(a + base_size, b + size, shorter - start)
    align(b, size, &end, &last)
    if size - end < MIN_COPY:
        end = size
    if end - start >= BLOCK:
        blocks = max((base_size - (size - end) - start) // BLOCK, 0)
    try:
        delta.out = <uint8_t *>PyMem_Malloc(delta.room)
        if not delta.out or not fill(&index, a, start, blocks):
            raise MemoryError
        put_number(&delta, size, b"\n")
        if start:
            put_copy(&delta, 0, start)
        put_between(&delta, &index, a, base_size, b, size, start, end)
        if end < size:
            put_copy(&delta, base_size - size + end, size - end)
        put_number(&delta, checksum(b, size), b";")
        return None if delta.room < 0 else PyBytes_FromStringAndSize(<char *>delta.out, delta.size)
    finally:
        PyMem_Free(delta.out)
        PyMem_Free(index.places)
        PyMem_Free(index.starts)
