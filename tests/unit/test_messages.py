"""The texts that a user may read: errors, refusals, close reasons, log lines and help have the form of their kind."""

import argparse
import ast
import json
import pkgutil
import re
from importlib import import_module

import pytest
from messages import collect_docstrings, collect_messages, collect_strings
from paths import DOCS, ROOT

from wsserver import centrifugecodes, cli
from wsserver.cli import main
from wsserver.closecodes import MAX_REASON_BYTES, MEANINGS
from wsserver.config.settings import TABLE, Settings
from wsserver.errors import SettingError
from wsserver.testing import MemoryServer

STRINGS = collect_strings()
MESSAGES = collect_messages()
SENTENCES = [message for message in MESSAGES if message.kind in {"error", "close", "text", "log"}]

NAMES = frozenset(
    {"Accept", "Authorization", "Autobahn", "Centrifuge", "Connection", "Content", "Host", "OpenSSL", "Origin"}
    | {"Protobuf", "Python", "Redis", "Sec", "Transfer", "Twisted", "WebSocket"}
    | {"Cloudflare", "Graphite", "Mozilla", "OpenTelemetry", "PostgreSQL", "WebSockets", "WebTransport"}
)
"""Capitalized words that a message may begin with: programs, protocols and headers."""

OF_OTHERS = frozenset({"Data must be bytes", "Usage: wsserver serve [options]"})
"""Messages in the form of Twisted's own, which programmers may recognize."""

SENT = frozenset(
    {
        "Bearer {token}",
        "bearer.{token}",
        "-H 'X-API-Key: {value}' ",
        "{PRIVATE}used:{key}",
        "{user}:{password}@",
        "{scheme}://{credentials}{hosts}/{path}",
    }
)
"""Texts with a secret that are sent only to their intended recipient, or written to a file of the user."""

SECRETS = re.compile(r"(?:^|_)(?:keys?|tokens?|secrets?|passwords?|authorization|cookies?|credentials)$", re.IGNORECASE)
"""Names of variables that hold secrets."""

HIDES = frozenset({"redact", "quote", "len", "type"})
"""Functions whose result does not contain the secret."""

PROGRAMS = frozenset(
    {"--logfile", "--nodaemon", "--pidfile", "--address", "--host", "--path", "--timeout", "--tls", "--verify"}
    | {"--dry-run"}
)
"""Options of twistd, and of certbot, that messages name."""

BANNED = {
    r"of this channel it is not kept": "presence is not enabled for this channel",
    r"\bwho comes\b": "a client, a subscriber",
    r"\bwho connects again\b": "a client that reconnects",
    r"\bwhoever\b": "name the subject",
    r"\bsomebody\b": "name the subject",
    r"(?<!there\s)\bis no\b(?! (?:longer|more than)\b)": "is not",
    r"\bis none of\b": "is not one of",
    r"\bnobody in particular\b": "anonymous",
    r"\bdeaf\b": "the Redis subscription is lost",
    r"\bno server has written\b": "malformed",
    r"\bgive (?:it )?up for it\b": "drop",
    r"\bwhat becomes of\b": "name what is done",
    r"\bit may do better\b": "temporary failure; retry",
    r"\ban ordinary day\b": "expected",
    r"\bare told apart\b": "differ",
    r"\bwithout a word\b": "silently",
    r"\bfor ever\b": "forever",
    r"\bnobody tells\b": "no event is sent",
    r"\bnot there at the moment\b": "is unavailable",
    r"\blet in who\b": "admit clients",
    r"\bwhat comes (?:wait|from)\b": "name the subject",
    r"\ba bit of chance\b": "random jitter",
    r"\beverything that is none\b": "any other",
    r"\btaken back\b": "revoked",
}
"""Phrases that a reader has to decode -> what to write instead."""


TEXTS = [(one.place, one.text) for one in [*MESSAGES, *collect_docstrings()] if one.kind not in {"pattern", "other"}]
PAGES = [
    (str(path.relative_to(ROOT)), text)
    for path in [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "static").iterdir()]
    if path.suffix in {".md", ".html", ".js", ".css"}
    for text in re.split(r"\n\s*\n", path.read_text("utf-8"))
]
"""Path -> a paragraph of a documentation page or of the browser page."""


def show(wrong):
    """List messages, one per line."""
    return "\n" + "\n".join(map(str, wrong))


def is_lower_case(text):
    """Return whether a text starts with a lower-case letter, with a name or with no letter at all."""
    word = re.match(r"[A-Za-z]*", text)[0]
    return not word[:1].isupper() or (word.isupper() and len(word) > 1) or word in NAMES


class KindTests:
    """Every text has a known kind."""

    def test_no_message_is_an_argument_of_an_unknown_call(self):
        wrong = [message for message in MESSAGES if message.kind == "unknown"]
        assert not wrong, f"add the calls to KINDS in tests/support/messages.py:{show(wrong)}"

    def test_at_least_the_expected_number_of_each_kind_is_found(self):
        kinds = [message.kind for message in MESSAGES]
        least = {"error": 250, "text": 100, "log": 30, "close": 20, "option": 40, "help": 10}
        assert {kind: kinds.count(kind) >= number for kind, number in least.items()} == dict.fromkeys(least, True)


class FormTests:
    """The form of errors, refusals, close reasons and log lines."""

    def test_messages_start_in_lower_case(self):
        wrong = [one for one in SENTENCES if not is_lower_case(one.text.lstrip("; ")) and one.text not in OF_OTHERS]
        assert not wrong, show(wrong)

    def test_messages_do_not_end_with_a_full_stop(self):
        wrong = [message for message in SENTENCES if re.search(r"[^.]\.\s*$", message.text)]
        assert not wrong, show(wrong)

    def test_messages_are_one_line(self):
        wrong = [message for message in SENTENCES if "\n" in message.text and message.context != "Return"]
        assert not wrong, show(wrong)

    def test_close_reasons_have_at_most_123_bytes(self):
        wrong = [one for one in MESSAGES if one.kind == "close" and len(one.text.encode()) > MAX_REASON_BYTES]
        assert not wrong, show(wrong)
        reasons = [*MEANINGS.values(), *(getattr(each, "reason", "") for each in vars(centrifugecodes).values())]
        assert [reason for reason in reasons if len(str(reason).encode()) > MAX_REASON_BYTES] == []

    def test_log_lines_begin_with_the_event(self):
        """The values follow the event: either as fields `name=value` at the end of the line, or within a sentence."""
        lines = [message for message in MESSAGES if message.kind == "log"]
        event = re.compile(r"(\{(number|name)\} |\{value\})?[A-Za-z]|\{method\} \{path\} ")
        wrong = [message for message in lines if not event.match(message.text)]
        assert not wrong, show(wrong)
        field = r" \w+=\{[^}]*\}(?: messages, \{\w+\} bytes)?"
        wrong = [
            one for one in lines if re.search(field, one.text) and not re.search(rf"(?:{field})+(?:; .*)?$", one.text)
        ]

        assert not wrong, show(wrong)


class HelpTests:
    """The help of options and of commands."""

    @pytest.mark.parametrize("option", TABLE.values(), ids=lambda option: option.name)
    def test_the_help_of_an_option_is_a_sentence_with_a_full_stop(self, option):
        assert re.match(r"[A-Z]", option.help), option.help
        assert option.help.endswith("."), option.help

    def test_the_help_of_commands_and_arguments_is_a_lower_case_phrase(self):
        texts = list(main._COMMANDS.values())
        texts += [action.help for parser in make_parsers() for action in parser._actions if action.help]
        assert len(texts) > 20
        assert [text for text in texts if not is_lower_case(text) or text.endswith(".")] == []


class OptionTests:
    """Options that messages name."""

    def test_every_option_named_in_a_string_exists(self):
        """The option is in the table of the server's options, or an argument of a command."""
        known = {option.flag for option in TABLE.values()} | PROGRAMS | {"--config", "--version", "--help"}
        parsers = list(make_parsers())
        assert len(parsers) >= 5
        for parser in parsers:
            known |= {text for action in parser._actions for text in action.option_strings}
        named = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
        wrong = [message for message in STRINGS if not set(named.findall(message.text)) <= known]
        assert not wrong, show(wrong)

    @pytest.mark.parametrize("option", TABLE.values(), ids=lambda option: option.name)
    def test_a_wrong_value_is_refused_in_the_form_of_a_message(self, option):
        """The error names the option, quotes the value unless it is secret, and says what was expected."""
        with pytest.raises(SettingError) as refused:
            Settings.load({option.name: ["\x01 wrong"]}, {}, None)
        text = str(refused.value)
        assert text.startswith(f"{option.flag}: ")
        assert is_lower_case(refused.value.args[-1] if len(refused.value.args) > 1 else text.partition(": ")[2])
        assert not text.endswith(".")
        assert "\n" not in text
        assert ("wrong" in text) != option.secret

    @pytest.mark.parametrize("option", [option for option in TABLE.values() if option.secret], ids=lambda one: one.name)
    def test_the_error_for_a_secret_does_not_contain_its_value(self, option):
        with pytest.raises(SettingError) as refused:
            Settings(**{option.name: "\x01hush"})
        assert "hush" not in str(refused.value)
        assert "hush" not in repr(refused.value.__cause__)


def make_parsers():
    """Make the parser of each command."""
    for module in pkgutil.iter_modules(cli.__path__):
        add_arguments = getattr(import_module(f"wsserver.cli.{module.name}"), "add_arguments", None)
        if add_arguments is not None:
            parser = argparse.ArgumentParser()
            add_arguments(parser)
            yield parser


class SecretTests:
    """No message contains a secret."""

    def test_no_message_formats_a_variable_that_holds_a_secret(self):
        wrong = [one for one in STRINGS if one.text not in SENT and any(map(find_secrets, one.values))]
        assert not wrong, show(wrong)

    @pytest.mark.parametrize(
        "expression", ["token", "self.token", "settings.api_key", "f(token)", "password or 1", "found['x'].secret"]
    )
    def test_find_secrets_finds_a_secret_in_the_expression(self, expression):
        assert find_secrets(ast.parse(expression, mode="eval").body)

    @pytest.mark.parametrize("expression", ["redact(token)", "len(token)", "quote(token)", "token_name", "key_path"])
    def test_find_secrets_ignores_expressions_that_hide_the_secret(self, expression):
        assert not find_secrets(ast.parse(expression, mode="eval").body)


def find_secrets(value):
    """Return the names of secrets in an expression."""
    if isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        if name in HIDES:
            return []
        return [
            found for part in [*value.args, *(each.value for each in value.keywords)] for found in find_secrets(part)
        ]
    if isinstance(value, ast.Compare):
        return []
    if isinstance(value, ast.Subscript):
        return find_secrets(value.value)
    if isinstance(value, ast.IfExp):
        return find_secrets(value.body) + find_secrets(value.orelse)
    name = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
    if SECRETS.search(name) and not name.isupper():
        return [name]
    return [found for part in ast.iter_child_nodes(value) for found in find_secrets(part)]


def find_phrases(phrase, texts):
    """Return the place of each text that contains a phrase, across line breaks too."""
    pattern = re.compile(phrase.replace(" ", r"\s+"), re.IGNORECASE)
    return [f"{place}: {found[0]}" for place, text in texts for found in [pattern.search(text)] if found]


@pytest.mark.parametrize("phrase", BANNED)
class LanguageTests:
    """Phrases that a reader has to decode."""

    def test_no_message_or_docstring_contains_the_phrase(self, phrase):
        wrong = find_phrases(phrase, TEXTS)
        assert not wrong, f"write: {BANNED[phrase]}{show(wrong)}"

    def test_no_documentation_page_contains_the_phrase(self, phrase):
        wrong = find_phrases(phrase, PAGES)
        assert not wrong, f"write: {BANNED[phrase]}{show(wrong)}"


UPGRADE = (
    b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
REFUSED = {
    "no Host": b"GET / HTTP/1.1\r\n",
    "not HTTP": b"hello\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
    "another version": b"GET / HTTP/2.0\r\nHost: localhost\r\n",
    "a path that does not exist": b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n",
    "a path like another": b"GET /redy HTTP/1.1\r\nHost: localhost\r\n",
    "a method": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n",
    "no handshake": b"GET /ws HTTP/1.1\r\nHost: localhost\r\n",
    "no channel": b"GET /sse HTTP/1.1\r\nHost: localhost\r\n",
    "a channel": b"GET /sse?channel=a%01 HTTP/1.1\r\nHost: localhost\r\n",
    "a token": b"GET /sse?channel=a&token=hush HTTP/1.1\r\nHost: localhost\r\n",
    "an Authorization": b"GET /sse?channel=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hush\r\n",
    "a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nna\x01me: x\r\n",
    "a closed API": b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nX-API-Key: hush\r\nContent-Length: 0\r\n",
    "a parameter": b"GET /ws?chanel=a HTTP/1.1\r\nSec-WebSocket-Version: 13\r\n" + UPGRADE,
    "a WebSocket version": b"GET /ws HTTP/1.1\r\nSec-WebSocket-Version: 12\r\n" + UPGRADE,
    "an origin": b"GET /ws HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nOrigin: https://x.example\r\n" + UPGRADE,
    "a WebSocket path": b"GET /ehco HTTP/1.1\r\nSec-WebSocket-Version: 13\r\n" + UPGRADE,
}
"""What is wrong with a request -> the request."""


class RefusalTests:
    """Refusals of requests, as a client receives them."""

    @pytest.mark.parametrize("request_head", REFUSED.values(), ids=REFUSED)
    def test_the_body_of_a_refusal_is_one_line_in_the_form_of_a_message(self, request_head):
        client = MemoryServer(Settings(catch_all="off")).connect()
        client.send(request_head + b"\r\n")
        status = int(client.response().split()[1])
        assert 400 <= status < 600
        body = client.transport.written.decode()
        found = json.loads(body)["error"]["message"] if body.startswith("{") else body.partition("\n")[2]
        assert found.count("\n") <= 1
        assert found.strip()
        assert is_lower_case(found), found
        assert not found.strip().endswith("."), found
        assert "hush" not in found
