"""Tests for wsserver/process/pipelog.py: the log of a worker, which never blocks."""

import os

import pytest

from wsserver.process.pipelog import MAX_QUEUED, PipeLog


class FakeReactor:
    """A reactor that only records which writers it has."""

    def __init__(self):
        self.writers = set()

    def addWriter(self, writer):
        self.writers.add(writer)

    def removeWriter(self, writer):
        self.writers.discard(writer)


@pytest.fixture
def pipe():
    """Return a log, its reactor, and a function that reads all that the pipe contains."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    reactor = FakeReactor()

    def read():
        data = b""
        while True:
            try:
                more = os.read(reading, 65536)
            except BlockingIOError:
                return data
            if not more:
                return data
            data += more

    yield PipeLog(reactor, writing), reactor, read
    os.close(reading)
    os.close(writing)


def test_writes_lines_at_once(pipe):
    log, reactor, read = pipe
    log.write("one\n")
    assert read() == b"one\n"
    assert reactor.writers == set()


def test_writes_the_rest_when_the_pipe_is_read(pipe):
    log, reactor, read = pipe
    text = "".join(f"{number:99}\n" for number in range(3000))
    log.write(text)
    assert reactor.writers == {log}
    data = b""
    while reactor.writers:
        data += read()
        log.doWrite()
    assert data + read() == text.encode()


def test_drops_and_counts_lines_beyond_the_limit(pipe):
    log, reactor, read = pipe
    line = "x" * 999 + "\n"
    for _ in range(MAX_QUEUED // 1000 + 200):
        log.write(line)
    data = b""
    while reactor.writers:
        data += read()
        log.doWrite()
    data += read()
    dropped = MAX_QUEUED // 1000 + 200 - data.count(b"\n")
    assert dropped > 0
    log.write("next\n")
    assert read() == b'log lines dropped lines=%d reason="the supervisor did not read"\nnext\n' % dropped


def test_drops_lines_without_an_error_after_the_supervisor_has_ended():
    reading, writing = os.pipe()
    reactor = FakeReactor()
    log = PipeLog(reactor, writing)
    os.close(reading)
    log.write("one\n")
    log.write("two\n")
    assert reactor.writers == set()
    log.close()
    os.close(writing)
