"""Tests for wsserver/listening/renewal.py: when a listener uses changed certificate files, and what it logs."""

import contextlib
import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest
from OpenSSL import SSL
from twisted.internet.task import Clock

from wsserver.config.settings import Settings
from wsserver.errors import SettingError
from wsserver.listening.ports import make_listeners
from wsserver.listening.renewal import INTERVAL, PATIENCE, CertificateWatch
from wsserver.wire.handed_files import Files, handed


@pytest.fixture
def live(tmp_path, authority):
    """Return a directory as certbot makes it: symbolic links to the files of the newest certificate."""
    live = tmp_path / "live"
    live.mkdir()
    issue(live, authority, 1)
    return live


@pytest.fixture
def searchable():
    """Return a directory that all users may search."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


@contextlib.contextmanager
def closed(directory, mode):
    """Change the mode of a directory, and become another user than the superuser, until the block ends."""
    before, user = directory.stat().st_mode, os.geteuid()
    directory.chmod(mode)
    if user == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(user)
        directory.chmod(before)


def issue(live, authority, number, kind="ECDSA"):
    """Issue a certificate, and switch the links to it."""
    own = authority.issue(live.parent / f"archive{number}", kind)
    for name in ("fullchain.pem", "privkey.pem"):
        switch(live, name, own.leaf.parent)
    return own


def switch(live, name, folder):
    link = live / f"{name}.new"
    link.symlink_to(folder / name)
    link.replace(live / name)


class Watched:
    """A listener whose files are looked at."""

    def __init__(self, **settings):
        self.clock = Clock()
        (listener,) = make_listeners(Settings(**settings), self.clock)
        self.source = listener.certificates
        self.watch = CertificateWatch([self.source], self.clock)
        self.watch.start()

    def serial(self):
        """Return the serial number of the certificate that the next handshake gets."""
        server = SSL.Connection(self.source.creator.context)
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        server.set_accept_state()
        client.set_connect_state()
        for _ in range(2):
            for one, other in ((client, server), (server, client)):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(65_536))
        return client.get_peer_certificate(as_cryptography=True).serial_number

    def wait(self, seconds):
        self.clock.pump([INTERVAL] * round(seconds / INTERVAL))


@pytest.fixture
def watched(live):
    return Watched(tls_cert=str(live / "fullchain.pem"), tls_key=str(live / "privkey.pem"))


class RenewalTests:
    """The files change."""

    def test_uses_the_new_files_once_the_links_are_switched(self, watched, live, authority, lines):
        before = watched.serial()
        own = issue(live, authority, 2)
        watched.wait(1)
        assert watched.serial() != before
        expires = f"{own.certificate.not_valid_after_utc:%Y-%m-%d}"
        assert lines == [f'certificate renewed file="{live / "fullchain.pem"}" expires={expires}']

    def test_the_expiry_for_the_metrics_is_that_of_the_certificate_in_use(self, watched, live, authority):
        name, first = str(live / "fullchain.pem"), watched.source.expires
        assert watched.watch.expiries() == {name: first.timestamp()}
        own = authority.issue(live.parent / "archive2", days=3)
        for file in ("fullchain.pem", "privkey.pem"):
            switch(live, file, own.leaf.parent)
        assert watched.watch.expiries() == {name: first.timestamp()}
        watched.wait(1)
        assert watched.watch.expiries() == {name: own.certificate.not_valid_after_utc.timestamp()}
        assert own.certificate.not_valid_after_utc < first

    @pytest.mark.parametrize("first", ["fullchain.pem", "privkey.pem"])
    def test_keeps_the_old_pair_until_both_files_are_new(self, watched, live, authority, lines, first):
        before = watched.serial()
        own = authority.issue(live.parent / "archive2")
        switch(live, first, own.leaf.parent)
        watched.wait(3)
        assert watched.serial() == before
        switch(live, "fullchain.pem" if first == "privkey.pem" else "privkey.pem", own.leaf.parent)
        watched.wait(1)
        assert watched.serial() != before
        assert [line.partition(" file=")[0] for line in lines] == ["certificate renewed"]

    def test_keeps_the_old_pair_while_a_file_is_written(self, watched, live, authority):
        before, own = watched.serial(), authority.issue(live.parent / "archive2")
        text = own.fullchain.read_bytes()
        shutil.copy(own.privkey, (live / "privkey.pem").resolve())
        target = (live / "fullchain.pem").resolve()
        for part in (text[:100], text[:-200]):
            target.write_bytes(part)
            watched.wait(1)
            assert watched.serial() == before
        target.write_bytes(text)
        watched.wait(1)
        assert watched.serial() != before

    def test_warns_once_if_the_files_stay_unusable(self, watched, live, lines):
        (live / "privkey.pem").unlink()
        watched.wait(PATIENCE)
        assert lines == []
        watched.wait(60)
        reason = f"--tls-key: cannot read '{live / 'privkey.pem'}': No such file or directory"
        assert lines == [f'certificate not renewed file="{live / "fullchain.pem"}" reason="{reason}"']

    def test_does_nothing_if_the_old_files_come_back(self, watched, live, authority, lines):
        before = watched.serial()
        moved = live / "moved"
        os.rename(live / "privkey.pem", moved)
        watched.wait(2)
        os.rename(moved, live / "privkey.pem")
        watched.wait(60)
        assert (watched.serial(), lines) == (before, [])

    def test_logs_nothing_while_the_files_do_not_change(self, watched, lines):
        before = watched.serial()
        watched.wait(60)
        assert (watched.serial(), lines) == (before, [])

    @pytest.mark.parametrize("kind", ["ssl", "tls", "one file"])
    def test_every_kind_of_tls_listener_is_renewed(self, live, authority, kind):
        both = live / "both.pem"
        both.write_bytes((live / "fullchain.pem").read_bytes() + (live / "privkey.pem").read_bytes())
        settings = {
            "ssl": {"listen": (f"ssl:0:privateKey={live}/privkey.pem:certKey={live}/fullchain.pem",)},
            "tls": {"listen": (f"tls:{live}:0",)},
            "one file": {"tls_cert": str(both)},
        }
        watched = Watched(**settings[kind])
        before = watched.serial()
        issue(live, authority, 2)
        both.write_bytes((live / "fullchain.pem").read_bytes() + (live / "privkey.pem").read_bytes())
        watched.wait(1)
        assert watched.serial() != before

    def test_a_new_file_in_the_directory_of_a_tls_endpoint_is_used(self, live, authority):
        watched = Watched(listen=(f"tls:{live}:0",))
        before = watched.serial()
        own = authority.issue(live.parent / "other", names=("other.example",))
        (live / "other.pem").write_bytes(own.fullchain.read_bytes() + own.privkey.read_bytes())
        watched.wait(1)
        assert watched.serial() != before

    @pytest.mark.parametrize(
        ("kind", "name", "mode"), [("pair", "", 0), ("tls", "", 0), ("tls", "live", 0), ("tls", "live", 0o111)]
    )
    def test_files_that_the_process_may_not_look_at_any_more_count_as_unchanged(
        self, searchable, authority, lines, kind, name, mode
    ):
        """It has started as root, and is another user now; only root may search certbot's directories."""
        live = searchable / "live"
        live.mkdir()
        issue(live, authority, 1)
        cert, key = str(live / "fullchain.pem"), str(live / "privkey.pem")
        watched = Watched(**{"tls_cert": cert, "tls_key": key} if kind == "pair" else {"listen": (f"tls:{live}:0",)})
        before = watched.serial()
        with closed(searchable / name, mode):
            watched.wait(60)
            assert watched.source.is_current()
        watched.wait(60)
        assert (watched.serial(), lines) == (before, [])
        issue(live, authority, 2)
        watched.wait(1)
        assert watched.serial() != before

    def test_stops_with_the_server(self, watched):
        watched.watch.stop()
        assert watched.clock.getDelayedCalls() == []

    def test_there_is_no_timer_without_tls(self):
        clock = Clock()
        CertificateWatch([], clock).start()
        assert clock.getDelayedCalls() == []


class HandedTests:
    """A worker that may not read the files uses those that the supervisor has read."""

    @pytest.fixture
    def files(self, watched):
        """Return the files as the supervisor has read them."""
        return Files(watched.source.contents, watched.source.states)

    def start(self, live, files):
        with handed(files):
            return Watched(tls_cert=str(live / "fullchain.pem"), tls_key=str(live / "privkey.pem"))

    def test_reports_a_renewal_that_was_before_its_start(self, watched, live, authority, lines, files):
        issue(live, authority, 2)
        (live / "privkey.pem").unlink()
        worker = self.start(live, files)
        assert worker.serial() == watched.serial()
        worker.wait(60)
        assert [line.partition(" file=")[0] for line in lines] == ["certificate not renewed"]
        issue(live, authority, 3)
        worker.wait(1)
        assert worker.serial() != watched.serial()

    def test_reports_nothing_if_the_files_have_not_changed(self, watched, live, lines, files):
        # Stands for a directory that the worker may not search.
        moved = live.with_name("moved")
        live.rename(moved)
        live.touch()
        with pytest.raises(SettingError):
            Watched(tls_cert=str(live / "fullchain.pem"), tls_key=str(live / "privkey.pem"))
        worker = self.start(live, files)
        live.unlink()
        moved.rename(live)
        worker.wait(60)
        assert (worker.serial(), lines) == (watched.serial(), [])
        assert worker.source.is_current()

    def test_uses_the_contents_of_a_supervisor_that_sends_no_states(self, watched, live, lines, files):
        (live / "privkey.pem").unlink()
        worker = self.start(live, Files(files.contents))
        worker.wait(60)
        assert (worker.serial(), lines) == (watched.serial(), [])

    def test_hands_on_the_pair_that_it_uses(self, live, authority, files):
        issue(live, authority, 2)
        (live / "privkey.pem").unlink()
        source = self.start(live, files).source
        assert (source.contents, source.states) == files

    def test_hands_over_the_renewed_pair_after_a_renewal(self, watched, live, authority, files):
        own = issue(live, authority, 2)
        watched.wait(1)
        assert watched.source.contents == {
            str(live / "fullchain.pem"): own.fullchain.read_bytes(),
            str(live / "privkey.pem"): own.privkey.read_bytes(),
        }
        assert watched.source.states != files.states
