"""Tests for wsserver/wire/handed_files.py: the contents of files that a worker may not read."""

from pathlib import Path

import pytest

from wsserver.errors import SettingError
from wsserver.wire.handed_files import Files, find_files, handed, load_and_record, load_or_use_handed, read_file


def load(*paths):
    """Return a function that loads files as a listener does."""

    def load_all():
        try:
            return [read_file(str(path), 10) for path in paths]
        except OSError as error:
            raise SettingError("--tls-key", error.strerror) from None

    return load_all


@pytest.fixture
def certificate(tmp_path):
    path = tmp_path / "cert.pem"
    path.write_bytes(b"new")
    return path


class LoadTests:
    def test_reads_the_files_themselves_if_all_can_be_read(self, certificate):
        with handed(Files({str(certificate): b"old"}, {str(certificate): (1,)})):
            assert load_or_use_handed(load(certificate)) == ([b"new"], Files({str(certificate): b"new"}))

    def test_uses_what_was_handed_over_for_all_files_if_one_cannot_be_read(self, certificate, tmp_path):
        """A new certificate does not belong to the old key."""
        key = tmp_path / "key.pem"
        files = Files({str(certificate): b"old", str(key): b"old key"}, {str(certificate): (1,), str(key): (2,)})
        with handed(files):
            assert load_or_use_handed(load(certificate, key)) == ([b"old", b"old key"], files)

    def test_lists_the_files_of_a_directory_that_were_handed_over(self, tmp_path):
        contents = {str(tmp_path / "a" / name): b"x" for name in ("2.pem", "1.pem")}

        def find():
            return find_files(str(tmp_path / "a")) or load(tmp_path / "missing")()

        with handed(Files({**contents, "/other/3.pem": b"x"})):
            assert load_or_use_handed(find)[0] == sorted(contents)

    def test_fails_if_nothing_was_handed_over(self, tmp_path):
        with pytest.raises(SettingError, match="No such file"):
            load_or_use_handed(load(tmp_path / "key.pem"))

    def test_fails_after_the_block(self, tmp_path):
        key = tmp_path / "key.pem"
        with handed(Files({str(key): b"old"})):
            pass
        with pytest.raises(SettingError):
            load_or_use_handed(load(key))


def test_records_the_contents_that_a_call_has_read_but_not_those_that_are_read_later(certificate, tmp_path):
    loaded, contents = load_and_record(load(certificate))
    other = tmp_path / "other"
    other.write_bytes(b"other")
    read_file(str(other), 10)
    assert (loaded, contents) == ([b"new"], {str(certificate): b"new"})


def test_find_files_returns_the_pem_files_of_a_directory_and_its_subdirectories(certificate, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "key.pem").touch()
    (tmp_path / "readme.txt").touch()
    assert [Path(path).name for path in find_files(str(tmp_path))] == ["cert.pem", "key.pem"]
