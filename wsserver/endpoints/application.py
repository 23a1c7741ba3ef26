"""
An application's own endpoints: validate the argument `endpoints=` of `WebSocketService`, and bind them to the server.

To bind an endpoint is to give its connections the server's options, see `wsserver.wire.protocol.bind`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from wsserver.wire.protocol import ServerFactory, ServerProtocol, adopt_options, bind

__all__ = ["Endpoint", "Routes", "bind_endpoint", "bind_routes"]

Endpoint = type[ServerProtocol] | Callable[[], ServerProtocol]
"""A subclass of `ServerProtocol`, or a callable that returns a new instance of one for each connection."""


class Routes(NamedTuple):
    """Bound endpoints. Each is a callable without arguments that returns the protocol object for a new connection."""

    exact: dict[str, Callable[[], ServerProtocol]]
    """Path without a trailing slash -> endpoint."""
    prefixes: dict[str, Callable[[], ServerProtocol]]
    """Prefix with a trailing slash -> endpoint of all paths below it, longest prefix first."""


def bind_endpoint(path: str, endpoint: Endpoint, factory: ServerFactory, **attributes: Any) -> Any:
    """
    Bind an endpoint to a server.

    Args:
        path: the endpoint's path, for error messages.
        endpoint: a subclass of `ServerProtocol`, or a callable; see `Endpoint`.
        factory: the server's factory.
        attributes: class attributes to set on the protocol of the connections, by name.

    Returns:
        A callable that returns a new protocol object for each connection; if `endpoint` is a class, a subclass of it.

    Raises:
        TypeError: `endpoint` is neither a subclass of `ServerProtocol` nor a callable, or it needs arguments.
    """
    held = endpoint if isinstance(endpoint, partial) else partial(cast(Any, endpoint)) if callable(endpoint) else None
    if held is None or (isinstance(held.func, type) and not issubclass(held.func, ServerProtocol)):
        raise TypeError(
            f"endpoint {path!r}: expected a subclass of ServerProtocol, or a callable that returns an instance of one, "
            f"not {endpoint!r}"
        )
    _check_arguments(path, held)
    if isinstance(endpoint, type):
        return bind(endpoint, factory, **attributes)
    bound: dict[type[ServerProtocol], type[ServerProtocol]] = {}

    def make() -> ServerProtocol:
        connection = endpoint()
        if not isinstance(connection, ServerProtocol):
            raise TypeError(f"endpoint {path!r}: expected an instance of ServerProtocol, not {connection!r}")
        kind = type(connection)
        if kind in bound.values():
            raise TypeError(f"endpoint {path!r}: expected a new instance for each connection, not the same one again")
        if kind not in bound:
            bound[kind] = bind(kind, factory, **attributes)
        adopt_options(connection, bound[kind])
        return connection

    return make


def _check_arguments(path: str, endpoint: "partial[Any]") -> None:
    try:
        signature = inspect.signature(endpoint.func)
    except ValueError:
        # Some compiled callables have no signature that can be inspected.
        return
    try:
        signature.bind(*endpoint.args, **endpoint.keywords)
    except TypeError as error:
        raise TypeError(
            f"endpoint {path!r}: {endpoint.func!r} cannot be called: {error}; functools.partial holds arguments for it"
        ) from None


def bind_routes(endpoints: Mapping[str, Endpoint], factory: ServerFactory, service: Any) -> Routes:
    """
    Bind the endpoints of an application to a server.

    Args:
        endpoints: path, or prefix with a trailing slash -> endpoint. The leading slash is optional.
        factory: the server's factory.
        service: the `WebSocketService`, which becomes the attribute `service` of each connection.

    Returns:
        The endpoints by path and by prefix.

    Raises:
        TypeError: a path is not a str, or an endpoint is neither a subclass of `ServerProtocol` nor a callable.
        ValueError: a path contains a query, a fragment or an empty segment, or is given twice.
    """
    routes = Routes({}, {})
    for given, endpoint in sorted(endpoints.items(), key=lambda item: -len(_check_path(item[0]))):
        path = "/" + given.removeprefix("/")
        is_prefix = path.endswith("/") and path != "/"
        attributes = {"service": service, "mounted_at": path if is_prefix else ""}
        table = routes.prefixes if is_prefix else routes.exact
        if path in table:
            raise ValueError(f"endpoint {given!r}: the path is given twice, with and without its leading slash")
        table[path] = bind_endpoint(given, endpoint, factory, **attributes)
    return routes


def _check_path(path: object) -> str:
    if not isinstance(path, str):
        raise TypeError(f"endpoint {path!r}: expected a path such as '/chat' or a prefix such as '/chat/'")
    if "?" in path or "#" in path or "//" in path:
        raise ValueError(f"endpoint {path!r}: expected a path such as '/chat', without a query or an empty segment")
    return path
