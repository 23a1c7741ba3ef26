"""
The layers of a connection (see `wsserver/wire/protocol.py`): each touches only the attributes that it declares.

A class owns the attributes that it defines, or sets in `__init__`. An annotation without a value, with no definition in
the class, declares an attribute that another layer provides.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path

import pytest
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol

from wsserver.wire import fastpath
from wsserver.wire.autobahn import AutobahnConnection
from wsserver.wire.fastpath import PyFastPath, PyOutput
from wsserver.wire.opening import OpeningHandshake
from wsserver.wire.protocol import ServerProtocol
from wsserver.wire.slowpath import SlowPath

COMPILED_SOURCE = Path(fastpath.__file__).with_name("_speedups.pyx").read_text()

PUBLIC_OF_AUTOBAHN = {name for name in dir(WebSocketServerProtocol) if not name.startswith("_")} | {
    *WebSocketServerProtocol.CONFIG_ATTRS,
    "transport",
}


def body(layer):
    """Parse the source of a class."""
    return ast.parse(textwrap.dedent(inspect.getsource(layer))).body[0]


def touched(tree):
    """Return the names of the attributes of `self` that some code reads or sets."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }


def stored(layer):
    """Return the names of the attributes of `self` that a class's methods set."""
    return {
        node.attr
        for node in ast.walk(body(layer))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def set_by_constructor(layer):
    """Return the names of the attributes that a class sets in `__init__`; with those of its base `PyOutput`."""
    classes = {layer, PyOutput} & {*layer.__mro__}
    functions = [
        node
        for one in classes
        for node in body(one).body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    return {
        node.attr
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


def owned(layer):
    """Return the names of the attributes that a class owns."""
    return {*vars(layer), *set_by_constructor(layer)}


def declared(layer):
    """Return the names of the attributes that a class declares, and that other layers provide."""
    return {*vars(layer).get("__annotations__", {})} - owned(layer)


def compiled_class():
    """Return the source of the compiled `Output` and `FastPath`, its subclass."""
    return "".join(
        re.search(rf"^cdef class {name}:\n(.*?)(?=^\S)", COMPILED_SOURCE, re.DOTALL | re.MULTILINE)[1]
        for name in ("Output", r"FastPath\(Output\)")
    )


def compiled_attributes(keyword):
    """Return the names of the compiled class's attributes that are declared with a keyword."""
    lines = re.findall(rf"^    cdef {keyword}\w+ ([\w, ]+)$", compiled_class(), re.MULTILINE)
    return {name.strip() for line in lines for name in line.split(",")}


def compiled_properties():
    """Return the names of the compiled class's properties."""
    return {*re.findall(r"^    @property\n    def (\w+)\(self\)", compiled_class(), re.MULTILINE)}


PRIVATE_OF_COMPILED = {"_direct", "_echoes", "corked", "corked_frames", "first_frame"}
"""Attributes of the compiled class that are not visible in Python."""


class FastPathTests:
    """The fast path needs no attributes besides those that it declares."""

    def test_the_python_version_touches_only_attributes_it_owns_or_declares(self):
        """Names of Autobahn and of other layers must be declared."""
        assert touched(body(PyFastPath)) <= owned(PyFastPath) | declared(PyFastPath)

    def test_the_compiled_version_touches_only_attributes_of_the_python_version(self):
        """The compiled version also uses its own C functions, and attributes that are not visible in Python."""
        functions = {*re.findall(r"^    cdef [\w ]*?(\w+)\(self", compiled_class(), re.MULTILINE)}
        used = {*re.findall(r"\bself\.(\w+)", compiled_class())}
        assert {"_slow", "onMessage", "messages_in"} <= used
        assert used <= owned(PyFastPath) | declared(PyFastPath) | functions | PRIVATE_OF_COMPILED

    def test_both_versions_own_the_same_attributes(self):
        """Other layers could not use an attribute that only one of them has."""
        public = compiled_attributes("public ") | compiled_properties()
        assert public == set_by_constructor(PyFastPath) | {"transport"}
        assert compiled_attributes("(?!public)") == PRIVATE_OF_COMPILED


@pytest.mark.parametrize(
    ("layer", "below"),
    [
        (PyFastPath, ()),
        (SlowPath, (PyFastPath,)),
        (OpeningHandshake, (AutobahnConnection,)),
        (ServerProtocol, (PyFastPath, SlowPath, OpeningHandshake, AutobahnConnection)),
    ],
)
class LayerTests:
    """Each layer of a connection."""

    def test_touches_only_attributes_it_declares_or_lower_layers_provide(self, layer, below):
        """Classes that extend Autobahn's need not declare Autobahn's public names."""
        known = {"__dict__"}
        for one in (layer, *below):
            known |= owned(one) | declared(one)
        if issubclass(layer, WebSocketServerProtocol):
            known |= PUBLIC_OF_AUTOBAHN
        assert touched(body(layer)) <= known

    def test_every_declared_attribute_is_used_and_provided(self, layer, below):
        """
        The layer uses each declared attribute, and a complete connection has it.

        For endpoints, `bind` sets `service`.
        """
        assert declared(layer) - touched(body(layer)) <= {"service"}
        # Some attributes are set only in the handshake, or by Autobahn while it processes a frame.
        later = set().union(*map(stored, (OpeningHandshake, ServerProtocol, WebSocketProtocol)))
        assert declared(layer) - {"service"} <= {*dir(ServerProtocol())} | later
