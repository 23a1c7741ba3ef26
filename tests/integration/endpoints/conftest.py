"""Clients that use the official SDKs of Centrifugo; a test is run with the SDKs that it is parametrized with."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sdk import SDK, running_sdk


@pytest.fixture
def start_sdk(kind: str) -> Iterator[Callable[..., SDK]]:
    """Return a function that starts clients of an SDK. The clients are stopped after the test."""
    with ExitStack() as stack:

        def start(server: Any, **options: Any) -> SDK:
            return stack.enter_context(running_sdk(options.pop("kind", kind), server.url, options))

        yield start


@pytest.fixture
def connect(start_sdk: Callable[..., SDK]) -> Callable[..., SDK]:
    """Return a function that starts connected clients."""

    def connect(server: Any, **options: Any) -> SDK:
        sdk = start_sdk(server, **options)
        sdk.order("connect")
        sdk.client = sdk.expect("connected")["client"]
        return sdk

    return connect
