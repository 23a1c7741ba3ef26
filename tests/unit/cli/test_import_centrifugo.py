"""Tests for wsserver/cli/import_centrifugo.py and the files that it reads: `wsserver import-centrifugo`."""

import json
import stat

import pytest

from wsserver.cli.main import main

CONFIG = {
    "client": {"token": {"hmac_secret_key": "old secret"}, "concurrency": 8},
    "channel": {"namespaces": [{"name": "chat", "presence": True, "allow_subscribe_for_client": True}]},
    "http_api": {"key": 'the "key"\\'},
    "admin": {"enabled": True, "password": "hush", "secret": "hush"},
}

WRITTEN = r"""# Converted from a configuration of Centrifugo by `wsserver import-centrifugo`.
#
# Options that have no counterpart, or another meaning:
# - admin.enabled: no counterpart: there is no admin interface

port = 8000
# Centrifugo also listens on IPv6; :: listens on all addresses of both kinds.
interface = "0.0.0.0"
history_size = 0
api_key = "the \"key\"\\"
# Errors have the status 200, as the libraries of Centrifugo expect.
api_errors = "body"
token_secret = "old secret"
# Replace the secret by one of at least 32 bytes, then remove this.
token_secret_weak = true
# Remove this if all your tokens have exp.
token_no_expiry = true

[[channel]]
pattern = "$chat:*"
allow_subscribe_for_client = false
presence = true
allow_presence_for_subscriber = false
join_leave = false

[[channel]]
pattern = "chat:*"
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = false
presence = true
allow_presence_for_subscriber = false
join_leave = false

[[channel]]
pattern = "*"
allow_subscribe_for_client = false
"""


@pytest.fixture(autouse=True)
def environment(clean_environment):
    """Run without variables of the server."""


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a configuration file of Centrifugo, and returns its path."""

    def write(content, name="config.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return str(path)

    return write


@pytest.fixture
def fail(capsys):
    """Return a function that runs the command, which must fail, and returns its one line on standard error."""

    def fail(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["import-centrifugo", *arguments])
        output, errors = capsys.readouterr()
        assert (caught.value.code, output, len(errors.splitlines())) == (1, "", 1)
        return errors.rstrip("\n")

    return fail


class OutputTests:
    """What the command writes."""

    def test_prints_a_file_that_checkconfig_accepts_and_the_notes_on_standard_error(self, config, capsys, tmp_path):
        main(["import-centrifugo", config(CONFIG)])
        output, errors = capsys.readouterr()
        assert output == WRITTEN
        assert errors == "admin.enabled: no counterpart: there is no admin interface\n"
        (tmp_path / "server.toml").write_text(output, "utf-8")
        main(["checkconfig", str(tmp_path / "server.toml")])

    def test_toml_is_read_too(self, config, capsys):
        main(["import-centrifugo", config('[http_server]\nport = 9000\n[http_api]\nkey = "k"\n', "config.toml")])
        assert "port = 9000\n" in capsys.readouterr().out

    def test_an_output_file_can_be_read_by_its_owner_only(self, config, tmp_path, capsys):
        """It contains secrets."""
        path = tmp_path / "server.toml"
        main(["import-centrifugo", config(CONFIG), "--output", str(path)])
        assert path.read_text("utf-8") == WRITTEN
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert capsys.readouterr().out == ""

    def test_an_existing_output_file_is_not_overwritten(self, config, tmp_path, fail):
        path = tmp_path / "server.toml"
        path.write_text("mine", "utf-8")
        assert fail(config(CONFIG), "--output", str(path)) == f"wsserver: {path}: cannot be written: File exists"
        assert path.read_text("utf-8") == "mine"

    def test_no_secret_is_in_the_notes(self, config, capsys):
        secrets = {"hmac_secret_key": "\x01hush", "jwks_public_endpoint": "https://user:hush@h/"}
        redis = {"address": ["redis://:hush@h/x"]}
        main(
            [
                "import-centrifugo",
                config(CONFIG | {"client": {"token": secrets}, "engine": {"type": "redis", "redis": redis}}),
            ]
        )
        _, errors = capsys.readouterr()
        assert "engine.redis.address: not converted" in errors
        assert "client.token.hmac_secret_key: not converted" in errors
        assert "redis://:hush" not in errors
        assert "\x01hush" not in errors


class RefusedFileTests:
    """Files that are not a configuration of Centrifugo 6."""

    @pytest.mark.parametrize(
        ("document", "name"),
        [
            ({"token_hmac_secret_key": "x"}, "token_hmac_secret_key"),
            ({"api_key": "x"}, "api_key"),
            ({"namespaces": []}, "namespaces"),
            ({"allowed_origins": ["*"]}, "allowed_origins"),
            ({"presence": True}, "presence"),
            ({"engine": "redis"}, "engine"),
            ({"admin": True}, "admin"),
            ({"client_insecure": True}, "client_insecure"),
        ],
    )
    def test_a_configuration_of_version_5_gets_an_error_that_names_the_conversion(self, config, fail, document, name):
        path = config(document)
        assert fail(path) == (
            f"wsserver: {path}: is a configuration of Centrifugo 5 or older: {name!r} has no section; convert it to "
            "version 6 first, see https://centrifugal.dev/docs/getting-started/migration_v6"
        )

    @pytest.mark.parametrize(
        ("content", "name", "problem"),
        [
            ("{", "config.json", "is not JSON"),
            ("[]", "config.json", "expected an object"),
            ("[" * 100_000, "config.json", "cannot be read: its values are nested too deeply"),
            ("{", "config.toml", "is not TOML"),
            ("a: 1", "config.yaml", "expected JSON or TOML; convert YAML to JSON first"),
        ],
    )
    def test_a_file_in_another_format_gets_an_error(self, config, fail, content, name, problem):
        assert problem in fail(config(content, name))

    def test_a_missing_file_gets_an_error(self, fail):
        assert fail("/nowhere.json") == "wsserver: /nowhere.json: cannot be read: No such file or directory"
