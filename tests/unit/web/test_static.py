"""Tests for wsserver/web/static.py: the files of the browser page."""

import os

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import Site

from wsserver.web import static
from wsserver.web.static import MAX_FILE, StaticFile, read_directory, static_directory


def fetch(resource, method="GET", **headers):
    """Fetch a resource as a browser would, from a real site, through memory; give status, headers and body."""
    root = Resource()
    root.putChild(b"file", resource)
    channel = Site(root, reactor=Clock()).buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"Host": "localhost", **headers}.items()]
    channel.dataReceived("\r\n".join([f"{method} /file HTTP/1.1", *lines, "", ""]).encode())
    head, _, body = transport.value().partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    read = dict(field.split(": ", 1) for field in fields)
    return int(status.split()[1]), {name.lower(): value for name, value in read.items()}, body


def content_type(file):
    """Tell the Content-Type that a file is sent with."""
    return fetch(file)[1]["content-type"]


class StaticFileTests:
    """A file as a browser gets it."""

    def test_get(self):
        """It is sent whole, with its type, its size and what the browser needs to keep it."""
        status, headers, body = fetch(StaticFile(b"hello\n", "text/plain; charset=utf-8"))
        assert (status, body) == (200, b"hello\n")
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert headers["content-length"] == "6"
        assert headers["cache-control"] == "no-cache"
        assert headers["etag"].startswith('"')
        assert headers["etag"].endswith('"')

    def test_head(self):
        """HEAD tells the same without the content."""
        file = StaticFile(b"hello\n", "text/plain")
        _, expected, _ = fetch(file)
        status, headers, body = fetch(file, "HEAD")
        assert (status, body) == (200, b"")
        for name in ("content-type", "content-length", "cache-control", "etag"):
            assert headers[name] == expected[name]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_silent(self, method):
        """Nothing is logged of the request here: with its query, where tokens are, it must not be in any log."""
        events = []
        globalLogPublisher.addObserver(events.append)
        fetch(StaticFile(b"hello\n", "text/plain"), method)
        globalLogPublisher.removeObserver(events.append)
        assert [formatEvent(event) for event in events] == []

    def test_empty(self):
        """An empty file is a file too."""
        status, headers, body = fetch(StaticFile(b"", "text/plain"))
        assert (status, headers["content-length"], body) == (200, "0", b"")

    def test_etag(self):
        """The same content has the same ETag, any other content another."""
        tags = [fetch(StaticFile(data, "text/plain"))[1]["etag"] for data in (b"a", b"a", b"b", b"")]
        assert tags[0] == tags[1]
        assert len(set(tags)) == 3

    @pytest.mark.parametrize("form", ["{}", '"x", {}', "*", '{}, "x"', "W/{}"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_not_modified(self, form, method):
        """A browser that has the content is told so, in every form of the question (RFC 9110 section 13.1.2)."""
        file = StaticFile(b"hello\n", "text/plain")
        tag = fetch(file)[1]["etag"]
        status, headers, body = fetch(file, method, If_None_Match=form.format(tag))
        assert (status, body) == (304, b"")
        assert headers["etag"] == tag
        assert headers["cache-control"] == "no-cache"

    def test_length_of_not_modified(self):
        """The answer does not claim that the content is empty (RFC 9110 section 8.6)."""
        file = StaticFile(b"hello\n", "text/plain")
        headers = fetch(file, If_None_Match=fetch(file)[1]["etag"])[1]
        assert headers.get("content-length", "6") == "6"

    @pytest.mark.parametrize("tags", ['"x"', '"x", "y"', "x", 'W/"x"', ""])
    def test_modified(self, tags):
        """A browser that has something else gets the content."""
        status, _, body = fetch(StaticFile(b"hello\n", "text/plain"), If_None_Match=tags)
        assert (status, body) == (200, b"hello\n")


class ReadDirectoryTests:
    """Which files are served, and as what."""

    def test_files(self, tmp_path):
        """Each file has its name; its content is as on the disk."""
        (tmp_path / "main.js").write_bytes(b"run()\n")
        (tmp_path / "b\u00fccher.txt").write_bytes(b"\x00\xff\r\n")
        table = read_directory(tmp_path)
        assert sorted(table) == ["b\u00fccher.txt".encode(), b"main.js"]
        assert fetch(table[b"main.js"])[2] == b"run()\n"
        assert fetch(table["b\u00fccher.txt".encode()])[2] == b"\x00\xff\r\n"

    def test_index(self, tmp_path):
        """The page itself has the name of the directory as well."""
        (tmp_path / "index.html").write_bytes(b"<!doctype html>")
        table = read_directory(tmp_path)
        assert sorted(table) == [b"", b"index.html"]
        assert table[b""] is table[b"index.html"]

    def test_empty_directory(self, tmp_path):
        """In an empty directory there is nothing to serve."""
        assert read_directory(tmp_path) == {}

    def test_dotfiles(self, tmp_path):
        """Files whose name starts with a dot are left out."""
        for name in (".htpasswd", ".git", "..x", ".index.html"):
            (tmp_path / name).write_text("secret")
        assert read_directory(tmp_path) == {}

    def test_links(self, tmp_path):
        """Links are left out, wherever they lead."""
        inside, outside = tmp_path / "static", tmp_path / "outside"
        inside.mkdir()
        outside.mkdir()
        (outside / "secret.txt").write_text("secret")
        (inside / "real.txt").write_text("real")
        (inside / "in.txt").symlink_to(inside / "real.txt")
        (inside / "relative.txt").symlink_to("real.txt")
        (inside / "out.txt").symlink_to(outside / "secret.txt")
        (inside / "passwd.txt").symlink_to("/etc/passwd")
        (inside / "directory").symlink_to(outside)
        (inside / "dangling.txt").symlink_to("nowhere")
        (inside / "loop.txt").symlink_to("loop.txt")
        (inside / "device.txt").symlink_to("/dev/zero")
        assert list(read_directory(inside)) == [b"real.txt"]

    def test_subdirectories(self, tmp_path):
        """Directories and what is in them are left out."""
        (tmp_path / "index.html").mkdir()
        (tmp_path / "js").mkdir()
        (tmp_path / "js" / "main.js").write_text("run()")
        assert read_directory(tmp_path) == {}

    def test_fifo(self, tmp_path):
        """A FIFO is left out; the server does not wait for someone to write to it."""
        os.mkfifo(tmp_path / "fifo.txt")
        (tmp_path / "real.txt").write_text("real")
        assert list(read_directory(tmp_path)) == [b"real.txt"]

    def test_size(self, tmp_path):
        """A file of 4 MiB is served; a larger one is a mistake that is named."""
        with (tmp_path / "large.bin").open("wb") as file:
            file.truncate(MAX_FILE)
        assert fetch(read_directory(tmp_path)[b"large.bin"])[1]["content-length"] == "4194304"
        os.truncate(tmp_path / "large.bin", MAX_FILE + 1)
        with pytest.raises(ValueError, match=r"large\.bin has 4194305 bytes: expected at most 4194304"):
            read_directory(tmp_path)

    def test_large_file_that_is_left_out(self, tmp_path):
        """What is left out may be as large as it likes."""
        with (tmp_path / ".large.bin").open("wb") as file:
            file.truncate(MAX_FILE + 1)
        assert read_directory(tmp_path) == {}

    def test_no_directory(self, tmp_path):
        """A directory that is not there is an error."""
        with pytest.raises(FileNotFoundError):
            read_directory(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("index.html", "text/html; charset=utf-8"),
            ("main.js", "text/javascript; charset=utf-8"),
            ("main.mjs", "text/javascript; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("favicon.svg", "image/svg+xml; charset=utf-8"),
            ("notes.txt", "text/plain; charset=utf-8"),
            ("data.json", "application/json"),
            ("image.png", "image/png"),
            ("unknown.zzzzz", "application/octet-stream"),
            ("LICENSE", "application/octet-stream"),
            # The bytes are those of gzip, whatever is in them.
            ("data.json.gz", "application/gzip"),
            ("index.html.gz", "application/gzip"),
        ],
    )
    def test_content_type(self, tmp_path, name, kind):
        """The name's ending tells the type; texts are UTF-8; what is unknown is never taken for a page."""
        (tmp_path / name).write_bytes(b"x")
        assert content_type(read_directory(tmp_path)[name.encode()]) == kind


class StaticDirectoryTests:
    """Where the page's files are."""

    def test_installed(self, tmp_path, monkeypatch):
        """In an installed package they are inside it."""
        (tmp_path / "wsserver" / "static").mkdir(parents=True)
        (tmp_path / "static").mkdir()
        monkeypatch.setattr(static, "files", lambda name: tmp_path / name)
        assert static_directory() == tmp_path / "wsserver" / "static"

    def test_checkout(self, tmp_path, monkeypatch):
        """In a checkout they are beside it."""
        (tmp_path / "wsserver").mkdir()
        (tmp_path / "static").mkdir()
        monkeypatch.setattr(static, "files", lambda name: tmp_path / name)
        assert static_directory() == tmp_path / "static"

    def test_page(self):
        """The real page is there and whole."""
        table = read_directory(static_directory())
        assert {b"", b"index.html", b"main.js", b"style.css", b"favicon.svg"} <= set(table)
        assert content_type(table[b""]) == "text/html; charset=utf-8"
