"""Tests for the layers: which modules an import loads."""

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
    "wsserver.endpoints.centrifuge.codec",
    "wsserver.endpoints.centrifuge.commands",
    "wsserver.endpoints.centrifuge.json_codec",
    "wsserver.endpoints.centrifuge.replies",
    "wsserver.config.redis_url",
    "wsserver.hub.channel_events",
    "wsserver.hub.names",
    "wsserver.hub.parameters",
    "wsserver.endpoints.raw.formats",
    "wsserver.auth.jwt",
    "wsserver.auth.claims",
    "wsserver.auth.keys",
    "wsserver.hooks.messages",
    "wsserver.web.parameters",
]

ALL = [
    "wsserver",
    *(module.name for module in pkgutil.walk_packages(wsserver.__path__, "wsserver.")),
]


def loaded_by(*modules):
    """Import modules in a fresh interpreter; return the names of all modules loaded by then."""
    program = "import sys\n" + "".join(f"import {name}\n" for name in modules) + "print('\\n'.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


class PureModuleTests:
    """Modules with rules and data only can be used without any networking."""

    @pytest.mark.parametrize("module", RULES)
    def test_loads_neither_twisted_nor_autobahn(self, module):
        loaded = loaded_by(module)
        assert module in loaded
        assert {"twisted", "autobahn", "txaio"} & loaded == set()


class ExtraTests:
    """Packages that only some servers need are extras."""

    def test_a_server_without_token_keys_does_not_load_pyjwt(self):
        loaded = loaded_by("wsserver.cli.main", "wsserver.service", "wsserver.endpoints.routes", "wsserver.auth.jwt")
        assert "wsserver.service" in loaded
        assert {"jwt", "wsserver.auth.keys", "wsserver.auth.jwks"} & loaded == set()


class ReactorTests:
    """The program that starts the server chooses the reactor."""

    def test_importing_the_modules_installs_no_reactor(self):
        loaded = loaded_by(*ALL)
        assert {*RULES, "wsserver.cli.main", "wsserver.service", "wsserver.wire.protocol"} <= loaded
        assert "twisted.internet.reactor" not in loaded


class PluginTests:
    """What twistd loads for each of its commands."""

    def test_the_plugin_loads_neither_the_server_nor_a_reactor(self):
        """twistd imports every plugin whenever it starts, whichever command runs."""
        loaded = loaded_by("twisted.plugins.wsserver_plugin")
        assert "twisted.plugins.wsserver_plugin" in loaded
        assert "twisted.internet.reactor" not in loaded
        assert {name for name in loaded if name.partition(".")[0] in ("wsserver", "autobahn", "txaio")} == set()

    def test_the_plugin_defines_the_command_wsserver_with_its_options(self):
        from twisted.plugins.wsserver_plugin import wsserver as plugin

        from wsserver import tap

        assert plugin.tapname == "wsserver"
        assert plugin.options is tap.Options
        assert plugin.makeService is tap.makeService
        assert plugin.description
