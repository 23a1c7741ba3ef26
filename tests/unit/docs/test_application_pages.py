"""The Python code for applications in docs/how-to/embedding.md and stop-and-reload.md does what the pages say."""

import functools
from types import SimpleNamespace

import pytest
from guide import Guide, replace_all
from twisted.application.service import Application, IService, IServiceCollection
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from wsserver.config.settings import Settings
from wsserver.errors import SettingError
from wsserver.service import WebSocketService
from wsserver.testing import MemoryServer
from wsserver.web.resource import WebSocketResource
from wsserver.wire.protocol import ServerProtocol

EMBEDDING, RELOAD = Guide("how-to/embedding"), Guide("how-to/stop-and-reload")


class NamedProtocol(ServerProtocol):
    """Replies with the room and the rest of the path."""

    def __init__(self, room="none"):
        super().__init__()
        self.room = room

    def onMessage(self, payload, isBinary):
        self.sendMessage(f"{self.room} {self.subpath}".encode())


def run(block, **names):
    """Run a block; return the names that it has defined."""
    exec(compile(block, "page", "exec"), names)
    return SimpleNamespace(**names)


def ask(server, path):
    """Return the reply of an endpoint to a message."""
    client = server.connect()
    client.open(path)
    client.send_text("?")
    [reply] = client.messages()
    return reply


class EmbeddingTests:
    """docs/how-to/embedding.md."""

    def test_the_service_becomes_a_child_of_the_application(self):
        block = replace_all(
            EMBEDDING.block("from wsserver.service import WebSocketService"),
            {"endpoints=...": "endpoints={}", "commands=...": "commands=()"},
        )
        application = Application("test")
        run(block, settings=Settings(port=0), reactor=reactor, application=application)
        [service] = IServiceCollection(application)
        assert isinstance(service, WebSocketService)
        assert IService(service).parent is not None

    def test_the_resource_becomes_a_child_of_the_site(self):
        root = Resource()
        block = EMBEDDING.block("from wsserver.web.resource import WebSocketResource")
        run(block, settings=Settings(), reactor=Clock(), root=root, ShoutProtocol=NamedProtocol)
        assert isinstance(root.children[b"shout"], WebSocketResource)

    def test_the_endpoints_serve_their_paths(self):
        made = []

        def keep(settings, reactor, *, endpoints):
            made.append(MemoryServer(settings, endpoints=endpoints))

        run(
            EMBEDDING.block("WebSocketService(\n"),
            WebSocketService=keep,
            settings=Settings(),
            reactor=Clock(),
            functools=functools,
            StatusProtocol=NamedProtocol,
            ChatProtocol=NamedProtocol,
        )
        [server] = made
        assert ask(server, "/status") == "none "
        assert ask(server, "/chat/lobby") == "none lobby"
        assert ask(server, "/chat/staff") == "staff "

    def test_the_functions_are_called_for_publications_and_gaps(self, capsys):
        server = MemoryServer()
        found = run(EMBEDDING.block("def on_publication"), service=server.service)
        server.service.hub.publish("news", "hello")
        server.clock.advance(0)
        found.on_gap("news")
        assert capsys.readouterr().out == "news 1 b'hello'\npublications to news may be missing\n"
        found.handle.stop()
        server.service.hub.publish("news", "late")
        server.clock.advance(0)
        assert capsys.readouterr().out == ""

    def test_the_clock_of_the_reactor_is_monotonic_afterwards(self):
        clock = Clock()
        before = clock.seconds
        run(EMBEDDING.block("from wsserver.service import use_monotonic_clock"), reactor=clock)
        assert clock.seconds is not before


class ReloadTests:
    """docs/how-to/stop-and-reload.md."""

    def test_the_endpoint_is_answering_until_its_answer_is_sent(self):
        asked = Deferred()
        block = RELOAD.block("class Lookup(ServerProtocol)")
        found = run(block, ServerProtocol=ServerProtocol, look_up=lambda payload: asked)
        server = MemoryServer(endpoints={"/lookup": found.Lookup})
        client = server.connect()
        client.open("/lookup")
        client.send_text("key")
        [connection] = server.service.connections.connections
        assert connection.is_answering()
        asked.callback(b"value")
        assert not connection.is_answering()
        assert client.messages() == ["value"]

    def test_the_function_reads_the_options_of_the_file_again(self, tmp_path):
        file = tmp_path / "chat.toml"
        file.write_text('ping_interval = "7s"\n')
        server = MemoryServer()
        block = RELOAD.block("def reload()").replace("/etc/chat.toml", str(file))
        run(block, service=server.service, Settings=Settings).reload()
        assert server.service.settings.ping_interval == 7

    @pytest.mark.parametrize("text", ['ping_interval = "soon"\n', "nothing = 1\n"])
    def test_an_invalid_file_changes_nothing(self, tmp_path, text):
        file = tmp_path / "chat.toml"
        file.write_text(text)
        server = MemoryServer()
        block = RELOAD.block("def reload()").replace("/etc/chat.toml", str(file))
        before = server.service.settings
        with pytest.raises(SettingError, match="line 1"):
            run(block, service=server.service, Settings=Settings).reload()
        assert server.service.settings is before
