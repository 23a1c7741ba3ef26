"""Tests for wsserver/cli/gentoken.py and wsserver/cli/checktoken.py: `wsserver gentoken` and `wsserver checktoken`."""

import io
import json
import re
import sys
import time

import jwt
import pytest

from wsserver.cli.main import main

SECRET = "a secret that is long enough to sign tokens with, for tests only"


@pytest.fixture(autouse=True)
def environment(clean_environment, monkeypatch):
    """Set the secret as the only variable of the server."""
    monkeypatch.setenv("WSSERVER_TOKEN_SECRET", SECRET)


@pytest.fixture
def run(capsys):
    """Return a function that runs a command and returns its output."""

    def run(*arguments):
        main(arguments)
        output, errors = capsys.readouterr()
        assert errors == ""
        return output.rstrip("\n")

    return run


@pytest.fixture
def fail(capsys):
    """Return a function that runs a command that must fail, and returns its one line on standard error."""

    def fail(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        output, errors = capsys.readouterr()
        assert (caught.value.code, output, len(errors.splitlines())) == (1, "", 1)
        return errors.rstrip("\n").removeprefix("wsserver: ")

    return fail


def decode(token):
    """Decode a token as any other program would."""
    return jwt.decode(token, SECRET, ["HS256"], options={"verify_aud": False})


class GenerateTests:
    """`wsserver gentoken`."""

    def test_the_default_token_is_anonymous_and_valid_for_an_hour(self, run):
        before = int(time.time())
        claims = decode(run("gentoken"))
        assert set(claims) == {"iat", "exp"}
        assert claims["exp"] - claims["iat"] == 3600
        assert before <= claims["iat"] <= time.time()

    def test_options_set_user_lifetime_info_and_further_claims(self, run):
        claims = decode(
            run("gentoken", "--user", "ada", "--ttl", "90s", "--info", '{"a": [1]}', "--claims", '{"channels": ["x"]}')
        )
        assert claims["exp"] - claims["iat"] == 90
        assert (claims["sub"], claims["info"], claims["channels"]) == ("ada", {"a": [1]}, ["x"])

    def test_channel_makes_a_subscription_token(self, run):
        assert decode(run("gentoken", "--channel", "news"))["channel"] == "news"

    def test_a_token_has_the_audience_and_issuer_that_the_server_requires(self, run, monkeypatch):
        monkeypatch.setenv("WSSERVER_TOKEN_AUDIENCE", "chat")
        monkeypatch.setenv("WSSERVER_TOKEN_ISSUER", "me")
        token = run("gentoken")
        assert (decode(token)["aud"], decode(token)["iss"]) == ("chat", "me")
        assert run("checktoken", token).startswith("connection token")

    @pytest.mark.parametrize("where", ["flag", "file"])
    def test_reads_the_secret_from_a_flag_or_the_file(self, run, tmp_path, monkeypatch, where):
        monkeypatch.delenv("WSSERVER_TOKEN_SECRET")
        path = tmp_path / "ws.toml"
        path.write_text(f'token_secret = "{SECRET}"\n')
        arguments = ("--token-secret", SECRET) if where == "flag" else ("--config", str(path))
        assert decode(run("gentoken", *arguments))["exp"]

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--ttl", "0"], "--ttl: expected a time from 1s to "),
            (["--ttl", "soon"], "--ttl: expected a time from 1s to "),
            (["--info", "{"], "--info: expected JSON"),
            (["--info", "[" * 100_000], "--info: expected JSON"),
            (["--claims", "{"], "--claims: expected JSON"),
            (["--claims", "[]"], "--claims: expected a JSON object"),
            (
                ["--claims", '{"caps": 1}'],
                "gentoken: the server would reject this token: the token's caps: expected an array",
            ),
            (["--claims", '{"exp": 0}'], "gentoken: the server would reject this token: the token expired"),
            (["--channel", "wsserver:x"], "gentoken: the server would reject this token: the token's channel"),
            (["--user", "a\nb"], "gentoken: the server would reject this token: the token's sub"),
            (["--token-secret", "hush"], "--token-secret: expected a secret of at least 32 bytes"),
            (["--config", "/nowhere.toml"], "/nowhere.toml: cannot be read"),
        ],
    )
    def test_a_bad_argument_is_one_line_without_a_secret(self, fail, arguments, problem):
        line = fail("gentoken", *arguments)
        assert line.startswith(problem)
        assert "hush" not in line
        assert SECRET not in line

    def test_a_missing_secret_is_reported_with_its_variable(self, fail, monkeypatch):
        monkeypatch.delenv("WSSERVER_TOKEN_SECRET")
        assert fail("gentoken").startswith("token_secret: missing; set WSSERVER_TOKEN_SECRET")

    def test_says_how_to_install_pyjwt_if_it_is_missing(self, fail, monkeypatch):
        """PyJWT is an optional dependency."""
        for name in ("wsserver.auth.jwks", "wsserver.auth.keys"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setitem(sys.modules, "jwt", None)
        assert "pip install 'PyJWT[crypto]'" in fail("gentoken")
        assert "pip install 'PyJWT[crypto]'" in fail("checktoken", "x")


class CheckTests:
    """`wsserver checktoken`."""

    def test_prints_kind_user_remaining_lifetime_and_claims(self, run):
        first, _, rest = run("checktoken", run("gentoken", "--user", "ada")).partition("\n")
        assert re.fullmatch(r"connection token, user 'ada', valid for another 3[56]\d\d seconds", first)
        assert json.loads(rest)["sub"] == "ada"

    def test_names_the_channel_of_a_subscription_token(self, run):
        shown = run("checktoken", run("gentoken", "--channel", "news"))
        assert shown.startswith("subscription token for channel 'news', anonymous client, ")

    def test_rounds_an_expiry_with_a_fraction_to_whole_seconds(self, run):
        token = jwt.encode({"exp": time.time() + 595.25}, SECRET)
        first = run("checktoken", token).partition("\n")[0]
        assert re.fullmatch(r"connection token, anonymous client, valid for another 59\d seconds", first)

    def test_a_dash_reads_the_token_from_standard_input(self, run, monkeypatch):
        """Other users of the machine can see a command's arguments, but not its standard input."""
        monkeypatch.setattr(sys, "stdin", io.StringIO(run("gentoken") + "\n"))
        assert run("checktoken", "-").startswith("connection token")

    @pytest.mark.parametrize(
        ("token", "problem"),
        [
            ("", "not a token"),
            ("hushhushhush", "not a token"),
            (jwt.encode({"exp": 1}, SECRET), "the token expired"),
            (jwt.encode({"exp": 1}, "x" * 64), "the token's signature does not match any key of this server"),
            ("x" * 10_000, "the token is over 8192 characters"),
        ],
    )
    def test_an_invalid_token_gets_the_servers_reason_but_is_not_shown(self, fail, token, problem):
        line = fail("checktoken", token)
        assert line.startswith(f"checktoken: {problem}")
        assert "hush" not in line

    def test_a_server_without_a_key_is_reported(self, fail, monkeypatch):
        monkeypatch.delenv("WSSERVER_TOKEN_SECRET")
        assert fail("checktoken", "x") == (
            "checktoken: no key to check the token with: set WSSERVER_TOKEN_SECRET, or name the server's file with "
            "--config"
        )
