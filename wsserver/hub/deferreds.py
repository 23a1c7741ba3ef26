"""
Results that may be there already: a plain value, or a Deferred of it.

With the broker in memory, nothing has to wait, and a Deferred for each step of a publication would take longer than the
publication itself. So functions whose result may have to wait return a `MaybeDeferred`: the value if it is known, or
else a Deferred. They raise their errors if they return no Deferred. `then`, `gather` and `may_wait` continue in both
cases with the same code.
"""

from collections.abc import Callable, Generator, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, succeed
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = ["MaybeDeferred", "as_deferred", "gather", "may_wait", "then", "waits"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_P = ParamSpec("_P")

MaybeDeferred: TypeAlias = _T | Deferred[_T]
"""A value, or a Deferred that fires with it."""


def waits(value: object) -> "TypeIs[Deferred[Any]]":
    """Return whether a value is a Deferred. `isinstance` would take three times as long: `Deferred` is an ABC."""
    return hasattr(value, "addCallbacks")


def then(value: MaybeDeferred[_T], function: Callable[[_T], MaybeDeferred[_R]]) -> MaybeDeferred[_R]:
    """
    Call a function with a value: at once if the value is known, or else when its Deferred fires.

    Returns:
        The function's result. If the value is a Deferred, a Deferred of the result.
    """
    return value.addCallback(function) if waits(value) else function(value)


def gather(values: Iterable[MaybeDeferred[_T]]) -> MaybeDeferred[list[_T]]:
    """Return the values in order; a Deferred of them if one of them is a Deferred. It fails with `FirstError`."""
    found = list(values)
    if any(map(waits, found)):
        return gatherResults([as_deferred(one) for one in found])
    return cast(list[_T], found)


def as_deferred(value: MaybeDeferred[_T]) -> Deferred[_T]:
    """Return a Deferred for a caller that expects one; it has fired already if the value is known."""
    return value if waits(value) else succeed(value)


def may_wait(
    function: Callable[_P, Generator[MaybeDeferred[Any], Any, _T]],
) -> Callable[_P, MaybeDeferred[_T]]:
    """
    Run a generator function step by step, as `inlineCallbacks` does, but without a Deferred unless it has to wait.

    The generator yields a `MaybeDeferred`, and gets its value, or the exception that the Deferred fails with.

    Returns:
        A function that returns what the generator returns, or raises its exception. If the generator yields a Deferred
        that has not fired yet, the function returns a Deferred of the result.
    """

    @wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> MaybeDeferred[_T]:
        generator = function(*args, **kwargs)
        try:
            found = next(generator)
            while True:
                if not waits(found):
                    found = generator.send(found)
                    continue
                results: list[Any] = []
                found.addBoth(results.append)
                if not results:
                    return _wait(generator, found, results)
                found = _send(generator, results[0])
        except StopIteration as stop:
            return cast(_T, stop.value)

    return run


def _send(generator: Generator[Any, Any, Any], result: Any) -> Any:
    """Continue a generator with the result of a Deferred; return what it yields next."""
    return result.throwExceptionIntoGenerator(generator) if isinstance(result, Failure) else generator.send(result)


@inlineCallbacks
def _wait(generator: Generator[Any, Any, _T], found: Any, results: list[Any]) -> Generator[Any, Any, _T]:
    """Continue a generator that has yielded the Deferred `found`, whose result will be appended to `results`."""
    try:
        while True:
            yield found
            found = _send(generator, results.pop())
            found = as_deferred(found)
            found.addBoth(results.append)
    except StopIteration as stop:
        return cast(_T, stop.value)
