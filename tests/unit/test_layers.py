"""Tests for the layers: what is loaded, and what is installed, by an import alone."""

import pkgutil
import subprocess
import sys

import pytest

import wsserver

RULES = [
    "wsserver.centrifugecodes",
    "wsserver.endpoints.raw.request",
    "wsserver.endpoints.refusals",
    "wsserver.config.settings",
    "wsserver.config.loader",
    "wsserver.origins",
    "wsserver.closecodes",
    "wsserver.errors",
    "wsserver.jsonfields",
    "wsserver.typing",
    "wsserver.wire.http11",
    "wsserver.wire.handshake",
    "wsserver.wire.deflate",
    "wsserver.endpoints.commands",
    "wsserver.endpoints.centrifuge.commands",
    "wsserver.endpoints.centrifuge.replies",
    "wsserver.config.redis_url",
    "wsserver.hub.names",
    "wsserver.endpoints.raw.formats",
    "wsserver.auth.jwt",
    "wsserver.auth.claims",
    "wsserver.auth.keys",
    "wsserver.hooks.messages",
    "wsserver.web.parameters",
]

# txredisapi installs a reactor when it is imported, so what uses it is imported when a server with a Redis is made.
USING_TXREDISAPI = {
    f"wsserver.redis.{name}" for name in ("broker", "supervisor", "subscriptions", "commands", "sentinel", "connection")
}
ALL = [
    "wsserver",
    *(
        module.name
        for module in pkgutil.walk_packages(wsserver.__path__, "wsserver.")
        if module.name not in USING_TXREDISAPI
    ),
]


def loaded_by(*modules):
    """Import modules in a fresh interpreter; give the names of all that are loaded then."""
    program = "import sys\n" + "".join(f"import {name}\n" for name in modules) + "print('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


class RulesTests:
    """The rules and words of the server can be used without any of its wires."""

    @pytest.mark.parametrize("module", RULES)
    def test_pure(self, module):
        """None of them loads Twisted or Autobahn."""
        loaded = loaded_by(module)
        assert module in loaded
        assert {"twisted", "autobahn", "txaio"} & loaded == set()


class ExtraTests:
    """What only some servers need is an extra."""

    def test_no_pyjwt(self):
        """A server without keys for tokens does not need PyJWT."""
        loaded = loaded_by("wsserver.cli.main", "wsserver.service", "wsserver.endpoints.routes", "wsserver.auth.jwt")
        assert "wsserver.service" in loaded
        assert {"jwt", "wsserver.auth.keys", "wsserver.auth.jwks"} & loaded == set()


class ReactorTests:
    """The reactor is chosen by whoever starts the program."""

    def test_none_installed(self):
        """No module of the package installs one by being imported, so any may still be chosen."""
        loaded = loaded_by(*ALL)
        assert {*RULES, "wsserver.cli.main", "wsserver.service", "wsserver.wire.protocol"} <= loaded
        assert "twisted.internet.reactor" not in loaded


class PluginTests:
    """What twistd loads for every of its commands."""

    def test_light(self):
        """The plugin says what it is without loading the server or installing a reactor."""
        loaded = loaded_by("twisted.plugins.wsserver_plugin")
        assert "twisted.plugins.wsserver_plugin" in loaded
        assert "twisted.internet.reactor" not in loaded
        assert {name for name in loaded if name.partition(".")[0] in ("wsserver", "autobahn", "txaio")} == set()

    def test_command(self):
        """It is the command `wsserver`, with the server's own options."""
        from twisted.plugins.wsserver_plugin import wsserver as plugin

        from wsserver import tap

        assert plugin.tapname == "wsserver"
        assert plugin.options is tap.Options
        assert plugin.makeService is tap.makeService
        assert plugin.description
