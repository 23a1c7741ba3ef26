"""Tests for wsserver/web/static.py: the files of the browser page."""

import gzip
import os

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent
from twisted.web.resource import Resource
from twisted.web.server import Site

from wsserver.web import static
from wsserver.web.static import MAX_FILE, StaticFile, read_directory, static_directory


def fetch(resource, method="GET", target="/file", **headers):
    """Request a resource of a real site in memory, as a browser would; return status, headers and body."""
    root = Resource()
    root.putChild(b"file", resource)
    channel = Site(root, reactor=Clock()).buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"Host": "localhost", **headers}.items()]
    channel.dataReceived("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode())
    head, _, body = transport.value().partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    read = dict(field.split(": ", 1) for field in fields)
    return int(status.split()[1]), {name.lower(): value for name, value in read.items()}, body


def content_type(file):
    """Return the Content-Type that a file is sent with."""
    return fetch(file)[1]["content-type"]


class StaticFileTests:
    """A file as a browser gets it."""

    def test_sends_the_content_with_its_type_length_etag_and_no_cache(self):
        status, headers, body = fetch(StaticFile(b"hello\n", "text/plain; charset=utf-8"))
        assert (status, body) == (200, b"hello\n")
        assert headers["content-type"] == "text/plain; charset=utf-8"
        assert headers["content-length"] == "6"
        assert headers["cache-control"] == "no-cache"
        assert headers["etag"].startswith('"')
        assert headers["etag"].endswith('"')

    def test_answers_head_with_the_same_headers_without_the_content(self):
        file = StaticFile(b"hello\n", "text/plain")
        _, expected, _ = fetch(file)
        status, headers, body = fetch(file, "HEAD")
        assert (status, body) == (200, b"")
        for name in ("content-type", "content-length", "cache-control", "etag"):
            assert headers[name] == expected[name]

    def test_logs_nothing_about_a_head_request(self, logged):
        """Twisted logs a request with its query, which may contain a token, if a response to HEAD has a body."""
        assert fetch(StaticFile(b"hello\n", "text/plain"), "HEAD", "/file?token=secret")[0] == 200
        assert [formatEvent(event) for event in logged] == []

    def test_serves_an_empty_file_with_200(self):
        status, headers, body = fetch(StaticFile(b"", "text/plain"))
        assert (status, headers["content-length"], body) == (200, "0", b"")

    def test_has_the_same_etag_only_for_the_same_content(self):
        tags = [fetch(StaticFile(data, "text/plain"))[1]["etag"] for data in (b"a", b"a", b"b", b"")]
        assert tags[0] == tags[1]
        assert len(set(tags)) == 3

    @pytest.mark.parametrize("form", ["{}", '"x", {}', "*", '{}, "x"', "W/{}"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_answers_304_if_if_none_match_contains_the_etag(self, form, method):
        """RFC 9110 section 13.1.2 defines If-None-Match."""
        file = StaticFile(b"hello\n", "text/plain")
        tag = fetch(file)[1]["etag"]
        status, headers, body = fetch(file, method, If_None_Match=form.format(tag))
        assert (status, body) == (304, b"")
        assert headers["etag"] == tag
        assert headers["cache-control"] == "no-cache"

    def test_sends_no_content_length_of_0_with_304(self):
        """In a 304, Content-Length would be the length of the content of a 200 (RFC 9110 section 8.6)."""
        file = StaticFile(b"hello\n", "text/plain")
        headers = fetch(file, If_None_Match=fetch(file)[1]["etag"])[1]
        assert headers.get("content-length", "6") == "6"

    @pytest.mark.parametrize("tags", ['"x"', '"x", "y"', "x", 'W/"x"', ""])
    def test_sends_the_content_if_if_none_match_has_another_etag(self, tags):
        status, _, body = fetch(StaticFile(b"hello\n", "text/plain"), If_None_Match=tags)
        assert (status, body) == (200, b"hello\n")


TEXT = b"hello, world\n" * 100


class CompressedFileTests:
    """A file as a browser gets it that accepts gzip."""

    @pytest.mark.parametrize(
        "accepted",
        ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, gzip;q=0.001", "GZIP", "x-gzip", "*", "br;q=0, *;q=0.5",
         "identity; q=0.5 , gzip ; q=1"],
    )  # fmt: skip
    def test_is_compressed_for_a_client_that_accepts_gzip(self, accepted):
        status, headers, body = fetch(StaticFile(TEXT, "text/plain"), Accept_Encoding=accepted)
        assert (status, gzip.decompress(body)) == (200, TEXT)
        assert headers["content-encoding"] == "gzip"
        assert headers["content-length"] == str(len(body))
        assert len(body) < 100
        assert headers["content-type"] == "text/plain"

    @pytest.mark.parametrize(
        "accepted",
        ["", "identity", "br", "gzip;q=0", "gzip; q=0.000", "*;q=0", "gzip;q=0, *", "gzipped", "br;level=gzip", ",;,"],
    )
    def test_is_sent_as_it_is_to_a_client_that_does_not_accept_gzip(self, accepted):
        _, headers, body = fetch(StaticFile(TEXT, "text/plain"), Accept_Encoding=accepted)
        assert body == TEXT
        assert "content-encoding" not in headers
        assert headers["content-length"] == str(len(TEXT))

    def test_is_sent_as_it_is_to_a_client_that_does_not_say_what_it_accepts(self):
        _, headers, body = fetch(StaticFile(TEXT, "text/plain"))
        assert (headers.get("content-encoding"), body) == (None, TEXT)

    def test_tells_caches_that_the_response_depends_on_accept_encoding(self):
        file = StaticFile(TEXT, "text/plain")
        tag = fetch(file)[1]["etag"]
        answers = [fetch(file), fetch(file, Accept_Encoding="gzip"), fetch(file, If_None_Match=tag)]
        assert [headers["vary"] for _, headers, _ in answers] == ["Accept-Encoding"] * 3

    @pytest.mark.parametrize("data", [b"", b"hello\n", bytes(range(256))])
    def test_is_sent_as_it_is_if_compression_makes_it_no_smaller(self, data):
        _, headers, body = fetch(StaticFile(data, "text/plain"), Accept_Encoding="gzip")
        assert body == data
        assert not {"content-encoding", "vary"} & set(headers)

    def test_answers_head_as_get_without_the_content(self):
        file = StaticFile(TEXT, "text/plain")
        _, expected, _ = fetch(file, Accept_Encoding="gzip")
        status, headers, body = fetch(file, "HEAD", Accept_Encoding="gzip")
        assert (status, body) == (200, b"")
        for name in ("content-type", "content-encoding", "content-length", "etag", "vary"):
            assert headers[name] == expected[name]

    def test_has_another_etag_than_the_file_as_it_is(self):
        file = StaticFile(TEXT, "text/plain")
        plain, compressed = (fetch(file, Accept_Encoding=one)[1]["etag"] for one in ("identity", "gzip"))
        assert plain != compressed
        assert fetch(file, Accept_Encoding="gzip", If_None_Match=compressed)[0] == 304
        assert fetch(file, Accept_Encoding="identity", If_None_Match=plain)[0] == 304
        # What the client has is not what it would get.
        assert fetch(file, Accept_Encoding="identity", If_None_Match=compressed)[0] == 200
        assert fetch(file, Accept_Encoding="gzip", If_None_Match=plain)[0] == 200

    def test_is_the_same_after_a_restart_so_that_browsers_keep_it(self):
        one, other = (fetch(StaticFile(TEXT, "text/plain"), Accept_Encoding="gzip") for _ in range(2))
        assert one == other

    def test_is_compressed_once(self, monkeypatch):
        calls = []
        compress = gzip.compress
        monkeypatch.setattr(gzip, "compress", lambda data, **options: calls.append(1) or compress(data, **options))
        file = StaticFile(TEXT, "text/plain")
        for accepted in ("gzip", "identity", "gzip"):
            fetch(file, Accept_Encoding=accepted)
        assert calls == [1]


class ReadDirectoryTests:
    """Which files are served, and as what."""

    def test_maps_each_file_name_to_the_content_of_the_file(self, tmp_path):
        (tmp_path / "main.js").write_bytes(b"run()\n")
        (tmp_path / "b\u00fccher.txt").write_bytes(b"\x00\xff\r\n")
        table = read_directory(tmp_path)
        assert sorted(table) == ["b\u00fccher.txt".encode(), b"main.js"]
        assert fetch(table[b"main.js"])[2] == b"run()\n"
        assert fetch(table["b\u00fccher.txt".encode()])[2] == b"\x00\xff\r\n"

    def test_serves_index_html_at_the_path_of_the_directory_too(self, tmp_path):
        (tmp_path / "index.html").write_bytes(b"<!doctype html>")
        table = read_directory(tmp_path)
        assert sorted(table) == [b"", b"index.html"]
        assert table[b""] is table[b"index.html"]

    def test_returns_no_files_for_an_empty_directory(self, tmp_path):
        assert read_directory(tmp_path) == {}

    def test_omits_files_whose_names_start_with_a_dot(self, tmp_path):
        for name in (".htpasswd", ".git", "..x", ".index.html"):
            (tmp_path / name).write_text("secret")
        assert read_directory(tmp_path) == {}

    def test_omits_symbolic_links_whatever_their_target(self, tmp_path):
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

    def test_omits_subdirectories_and_their_files(self, tmp_path):
        (tmp_path / "index.html").mkdir()
        (tmp_path / "js").mkdir()
        (tmp_path / "js" / "main.js").write_text("run()")
        assert read_directory(tmp_path) == {}

    def test_omits_a_fifo_without_opening_it(self, tmp_path):
        """Opening a FIFO would block until another process opens it for writing."""
        os.mkfifo(tmp_path / "fifo.txt")
        (tmp_path / "real.txt").write_text("real")
        assert list(read_directory(tmp_path)) == [b"real.txt"]

    def test_serves_a_file_of_4_mib_and_refuses_a_larger_one(self, tmp_path):
        with (tmp_path / "large.bin").open("wb") as file:
            file.truncate(MAX_FILE)
        assert fetch(read_directory(tmp_path)[b"large.bin"])[1]["content-length"] == "4194304"
        os.truncate(tmp_path / "large.bin", MAX_FILE + 1)
        with pytest.raises(ValueError, match=r"large\.bin has 4194305 bytes: expected at most 4194304"):
            read_directory(tmp_path)

    def test_does_not_limit_the_size_of_omitted_files(self, tmp_path):
        with (tmp_path / ".large.bin").open("wb") as file:
            file.truncate(MAX_FILE + 1)
        assert read_directory(tmp_path) == {}

    def test_raises_file_not_found_error_for_a_missing_directory(self, tmp_path):
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
            # The content is in gzip format, whatever it contains.
            ("data.json.gz", "application/gzip"),
            ("index.html.gz", "application/gzip"),
        ],
    )
    def test_derives_the_content_type_from_the_file_name(self, tmp_path, name, kind):
        """Text is UTF-8. An unknown type is never sent as HTML."""
        (tmp_path / name).write_bytes(b"x")
        assert content_type(read_directory(tmp_path)[name.encode()]) == kind


class StaticDirectoryTests:
    """The directory of the page's files."""

    def test_is_inside_the_package_if_it_is_installed(self, tmp_path, monkeypatch):
        (tmp_path / "wsserver" / "static").mkdir(parents=True)
        (tmp_path / "static").mkdir()
        monkeypatch.setattr(static, "files", lambda name: tmp_path / name)
        assert static_directory() == tmp_path / "wsserver" / "static"

    def test_is_beside_the_package_in_a_checkout(self, tmp_path, monkeypatch):
        (tmp_path / "wsserver").mkdir()
        (tmp_path / "static").mkdir()
        monkeypatch.setattr(static, "files", lambda name: tmp_path / name)
        assert static_directory() == tmp_path / "static"

    def test_contains_the_files_of_the_real_page(self):
        table = read_directory(static_directory())
        assert {b"", b"index.html", b"main.js", b"style.css", b"favicon.svg"} <= set(table)
        assert content_type(table[b""]) == "text/html; charset=utf-8"
