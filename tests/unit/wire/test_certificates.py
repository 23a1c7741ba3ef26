"""Tests for wsserver/wire/certificates.py: the files that are read, and the errors for unusable files."""

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
    """The files of a certificate and its key."""

    def test_reads_the_chain_and_the_key_that_certbot_writes(self, issued, authority):
        """The chain keeps the order of the file."""
        read = read_server_certificate(str(issued.fullchain), str(issued.privkey))
        assert read.chain == (issued.certificate, authority.intermediate)
        assert read.key.private_numbers() == issued.key.private_numbers()

    @pytest.mark.parametrize("key_first", [False, True])
    def test_reads_the_key_before_or_after_the_certificates_of_one_file(self, issued, tmp_path, key_first):
        """The file may contain other text between the key and the certificates, and CRLF line ends."""
        parts = [issued.fullchain.read_text(), "a comment\n" + issued.privkey.read_text()]
        path = tmp_path / "all.pem"
        path.write_bytes("".join(reversed(parts) if key_first else parts).replace("\n", "\r\n").encode())
        assert len(read_server_certificate(str(path)).chain) == 2

    def test_reads_an_ec_private_key_after_ec_parameters(self, authority, tmp_path):
        """`openssl ecparam` writes this older form."""
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
    def test_the_error_for_an_unusable_file_names_it_and_the_problem(self, issued, tmp_path, of_key, make, problem):
        """The error says whether the certificate's file or the key's file has the problem."""
        path = tmp_path / "bad.pem"
        make(path)
        files = (str(issued.fullchain), str(path)) if of_key else (str(path), str(issued.privkey))
        with pytest.raises(CertificateError, match="^" + problem.format(re.escape(str(path)))) as raised:
            read_server_certificate(*files)
        assert raised.value.of_key is of_key

    def test_a_null_byte_in_a_path_is_an_error_that_says_so(self, issued):
        """Environment variables cannot contain one, but an application can pass it."""
        with pytest.raises(CertificateError, match=r"cannot read .*null byte"):
            read_server_certificate("a\0b", str(issued.privkey))

    def test_the_error_counts_the_damaged_certificate_and_quotes_nothing_of_a_key(self, issued, tmp_path):
        path = tmp_path / "damaged.pem"
        path.write_bytes(issued.leaf.read_bytes() + issued.leaf.read_bytes().replace(b"MII", b"AAA"))
        with pytest.raises(CertificateError, match=f"^certificate 2 in '{path}' is damaged$"):
            read_server_certificate(str(path), str(issued.privkey))
        path.write_bytes(issued.privkey.read_bytes().replace(b"MI", b"AA"))
        with pytest.raises(CertificateError, match=f"^the private key in '{path}' is damaged or of an unknown kind$"):
            read_server_certificate(str(issued.fullchain), str(path))

    @pytest.mark.parametrize("old", [False, True], ids=["PKCS 8", "older form"])
    def test_the_error_for_an_encrypted_key_names_openssl_pkey_to_decrypt_it(self, authority, tmp_path, old):
        own = authority.issue(tmp_path / "own")
        write_key(own.privkey, own.key, b"secret")
        if old:
            how = serialization.PrivateFormat.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"secret")
            own.privkey.write_bytes(own.key.private_bytes(PEM, *how))
        with pytest.raises(CertificateError, match=f"^the private key in '{own.privkey}' is encrypted; .*openssl pkey"):
            read_server_certificate(str(own.fullchain), str(own.privkey))

    def test_rejects_a_key_that_is_missing_or_does_not_belong_to_the_first_certificate(
        self, issued, authority, tmp_path
    ):
        other = write_key(tmp_path / "other.pem", make_key())
        with pytest.raises(CertificateError, match=f"^the private key in '{other}' does not belong to the certificate"):
            read_server_certificate(str(issued.fullchain), str(other))
        swapped = tmp_path / "turned.pem"
        swapped.write_bytes(authority.intermediate.public_bytes(PEM) + issued.leaf.read_bytes())
        with pytest.raises(
            CertificateError, match=r"belongs to a later certificate of .*; expected it to be the first$"
        ):
            read_server_certificate(str(swapped), str(issued.privkey))
        with pytest.raises(
            CertificateError, match=r"^expected the file of the private key, as .* does not contain it$"
        ):
            read_server_certificate(str(issued.fullchain))

    def test_describes_a_certificate_only_if_it_has_expired_or_is_not_yet_valid(self, issued):
        now = datetime.datetime.now(datetime.UTC)
        month = datetime.timedelta(days=31)
        assert describe_validity(issued.certificate, now) is None
        assert "it expired on 2" in str(describe_validity(issued.certificate, now + month))
        assert "it is not valid before 2" in str(describe_validity(issued.certificate, now - month))


class DirectoryTests:
    """The directory of a `tls:` endpoint."""

    def test_reads_each_certificate_with_its_key_and_its_chain(self, authority, tmp_path):
        """
        A certificate and its key may be in the same file or in different files, and in subdirectories.

        Files of other types are ignored.
        """
        authority.issue(tmp_path / "a", names=("a.example", "A2.example"))
        separate = authority.issue(tmp_path / "b", "RSA", names=("b.example",))
        separate.fullchain.unlink()
        (tmp_path / "README").write_text("-----BEGIN nothing")
        (first, one), (second, other) = read_directory(str(tmp_path))
        assert (first, second) == ({"a.example", "a2.example"}, {"b.example"})
        assert one.chain[1:] == other.chain[1:] == (authority.intermediate,)

    def test_rejects_a_missing_or_empty_directory_a_missing_key_and_damaged_files(self, tmp_path, authority):
        """The error for a damaged file names the file."""
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
