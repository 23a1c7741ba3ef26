"""Tests for wsserver/wire/certificates.py: which files are read, and what is said of those that cannot be used."""

import datetime
import re

import pytest
from cryptography.hazmat.primitives import serialization
from pki import make_key, write_key

from wsserver.wire.certificates import CertificateError, describe_validity, read_directory, read_server_certificate

PEM = serialization.Encoding.PEM


@pytest.fixture(scope="module", params=["ECDSA", "RSA"])
def issued(request, authority, tmp_path_factory):
    return authority.issue(tmp_path_factory.mktemp("issued") / request.param, request.param)


class FileTests:
    """A certificate's file and its key's."""

    def test_reads_the_files_of_certbot(self, issued, authority):
        """The chain in the file's order, and the key."""
        read = read_server_certificate(str(issued.fullchain), str(issued.privkey))
        assert read.chain == (issued.certificate, authority.intermediate)
        assert read.key.private_numbers() == issued.key.private_numbers()

    @pytest.mark.parametrize("key_first", [False, True])
    def test_reads_the_key_from_the_same_file(self, issued, tmp_path, key_first):
        """Before or after the certificates, with text between them and lines that end with CRLF."""
        parts = [issued.fullchain.read_text(), "a comment\n" + issued.privkey.read_text()]
        path = tmp_path / "all.pem"
        path.write_bytes("".join(reversed(parts) if key_first else parts).replace("\n", "\r\n").encode())
        assert len(read_server_certificate(str(path)).chain) == 2

    def test_reads_a_key_in_the_older_form(self, authority, tmp_path):
        """`BEGIN EC PRIVATE KEY`, with the parameters before it that `openssl ecparam` writes."""
        own = authority.issue(tmp_path / "own")
        old = own.key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        own.privkey.write_bytes(parameters + old)
        assert read_server_certificate(str(own.fullchain), str(own.privkey)).chain[0] == own.certificate

    @pytest.mark.parametrize("of_key", [False, True], ids=["certificate", "key"])
    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (lambda path: None, "cannot read '{}': No such file or directory"),
            (lambda path: path.mkdir(), "cannot read '{}': Is a directory"),
            (lambda path: path.write_bytes(b"\x30\x82" + bytes(800)), "'{}' contains no .* in PEM format"),
            (lambda path: path.write_bytes(b""), "'{}' contains no .* in PEM format"),
            (lambda path: path.write_bytes(bytes(1024 * 1024 + 1)), "'{}' is longer than 1048576 bytes"),
        ],
        ids=["missing", "directory", "DER", "empty", "huge"],
    )
    def test_names_a_file_that_is_not_usable(self, issued, tmp_path, of_key, make, problem):
        """The one that is at fault."""
        path = tmp_path / "bad.pem"
        make(path)
        files = (str(issued.fullchain), str(path)) if of_key else (str(path), str(issued.privkey))
        with pytest.raises(CertificateError, match="^" + problem.format(re.escape(str(path)))) as raised:
            read_server_certificate(*files)
        assert raised.value.of_key is of_key

    def test_a_null_in_a_path(self, issued):
        """As an environment cannot have, but an application can."""
        with pytest.raises(CertificateError, match=r"cannot read .*null byte"):
            read_server_certificate("a\0b", str(issued.privkey))

    def test_damaged(self, issued, tmp_path):
        """Of several certificates the damaged one is counted; of a key nothing is quoted."""
        path = tmp_path / "damaged.pem"
        path.write_bytes(issued.leaf.read_bytes() + issued.leaf.read_bytes().replace(b"MII", b"AAA"))
        with pytest.raises(CertificateError, match=f"^certificate 2 in '{path}' is damaged$"):
            read_server_certificate(str(path), str(issued.privkey))
        path.write_bytes(issued.privkey.read_bytes().replace(b"MI", b"AA"))
        with pytest.raises(CertificateError, match=f"^the private key in '{path}' is damaged or of an unknown kind$"):
            read_server_certificate(str(issued.fullchain), str(path))

    @pytest.mark.parametrize("old", [False, True], ids=["PKCS 8", "older form"])
    def test_an_encrypted_key(self, authority, tmp_path, old):
        """It is said how to decrypt it."""
        own = authority.issue(tmp_path / "own")
        write_key(own.privkey, own.key, b"secret")
        if old:
            how = serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"secret")
            own.privkey.write_bytes(own.key.private_bytes(PEM, *how))
        with pytest.raises(CertificateError, match=f"^the private key in '{own.privkey}' is encrypted; .*openssl pkey"):
            read_server_certificate(str(own.fullchain), str(own.privkey))

    def test_a_key_of_another_certificate(self, issued, authority, tmp_path):
        """Also one of the same file; and no key at all."""
        other = write_key(tmp_path / "other.pem", make_key())
        with pytest.raises(CertificateError, match=f"^the private key in '{other}' does not belong to the certificate"):
            read_server_certificate(str(issued.fullchain), str(other))
        turned = tmp_path / "turned.pem"
        turned.write_bytes(authority.intermediate.public_bytes(PEM) + issued.leaf.read_bytes())
        with pytest.raises(
            CertificateError, match=r"belongs to a later certificate of .*; expected it to be the first$"
        ):
            read_server_certificate(str(turned), str(issued.privkey))
        with pytest.raises(
            CertificateError, match=r"^expected the file of the private key, as .* does not contain it$"
        ):
            read_server_certificate(str(issued.fullchain))

    def test_validity(self, issued):
        """Before and after."""
        now = datetime.datetime.now(datetime.UTC)
        month = datetime.timedelta(days=31)
        assert describe_validity(issued.certificate, now) is None
        assert "it expired on 2" in str(describe_validity(issued.certificate, now + month))
        assert "it is not valid before 2" in str(describe_validity(issued.certificate, now - month))


class DirectoryTests:
    """The directory of a `tls:` endpoint."""

    def test_keys_and_chains_are_put_together(self, authority, tmp_path):
        """From files of all kinds, in subdirectories too; others are not read."""
        authority.issue(tmp_path / "a", names=("a.example", "A2.example"))
        separate = authority.issue(tmp_path / "b", "RSA", names=("b.example",))
        separate.fullchain.unlink()
        (tmp_path / "README").write_text("-----BEGIN nothing")
        (first, one), (second, other) = read_directory(str(tmp_path))
        assert (first, second) == ({"a.example", "a2.example"}, {"b.example"})
        assert one.chain[1:] == other.chain[1:] == (authority.intermediate,)

    def test_refused(self, tmp_path, authority):
        """No directory; nothing in it; no key; a damaged file is named."""
        with pytest.raises(CertificateError, match=r"is not a directory$"):
            read_directory(str(tmp_path / "missing"))
        with pytest.raises(CertificateError, match=r"contains no \.pem files with a certificate and its private key$"):
            read_directory(str(tmp_path))
        own = authority.issue(tmp_path / "own")
        own.privkey.unlink()
        with pytest.raises(CertificateError, match=r"contains no \.pem files with a certificate and its private key$"):
            read_directory(str(tmp_path))
        own.leaf.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
        with pytest.raises(CertificateError, match=f"^certificate 1 in '{own.leaf}' is damaged$"):
            read_directory(str(tmp_path))
