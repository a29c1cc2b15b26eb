"""Functions as handlers, with the annotations of their parameters."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, Literal, Union

FUNCTIONS = "/_taskqueue/task/"
"""The beginning of the paths of task functions.

Nothing else answers there, even if the app has a matching route.
"""


def check_function(function: Any) -> None:
    """Check that calling a function runs it.

    Raises TypeError for anything but a function, for a generator function, and for a method in the
    body of its class.
    """
    name = name_of(function)
    if not callable(function) or isinstance(function, type):
        raise TypeError(
            f"{name} is a {type(function).__name__}, not a function: decorate the function "
            "that handles the task"
        )
    for called in (function, type(function).__call__):
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(
                f"handler {name} is a generator function: calling it would not run its body. "
                "Use no yield in it: collect what it makes "
                "and return that, or return Response(generate()), with the generator in a "
                "function of its own"
            )
    if _is_unbound_method(function):
        raise TypeError(
            f"handler {name} is a method, and a task has no object to call it on: use a function, "
            "or leave its first parameter out and decorate it with @staticmethod first"
        )


def name_of(function: Any) -> str:
    """Return a function's name, for messages."""
    plain = function.func if isinstance(function, functools.partial) else function
    return str(getattr(plain, "__qualname__", None) or type(plain).__qualname__)


def names_within(function: Any) -> list[str]:
    """Return the names of a function and of the functions that its closure holds, at any depth.

    Two functions with the same names have been defined by the same code, as far as that can be
    known: a decorator's wrappers, which share a name, hold different functions.
    """
    found: list[Any] = [function]
    for each in found:  # which grows meanwhile
        for cell in getattr(each, "__closure__", None) or ():
            with suppress(ValueError):  # a cell that is still empty
                held = cell.cell_contents
                if inspect.isfunction(held) and not any(held is known for known in found):
                    found.append(held)
    return [f"{getattr(each, '__module__', None)}.{name_of(each)}" for each in found]


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's parameters, evaluated.

    The return annotation is left out, because it may name something that does not exist at run
    time. Raises TypeError for an annotation that cannot be evaluated.
    """

    def bare() -> None: ...

    plain = inspect.unwrap(function)
    plain = plain.func if isinstance(plain, functools.partial) else plain
    plain = (
        plain
        if hasattr(plain, "__globals__") or hasattr(plain, "__func__")
        else type(plain).__call__
    )
    bare.__annotations__ = {
        name: hint
        for name, hint in getattr(plain, "__annotations__", {}).items()
        if name != "return"
    }
    try:
        return typing.get_type_hints(
            bare, globalns=getattr(plain, "__globals__", {}), include_extras=True
        )
    except NameError as error:
        raise TypeError(
            f"an annotation of handler {name_of(function)} cannot be read: {error}. "
            "Define or import the name in the function's module, and not for type checkers only"
        ) from error


def label(hint: Any) -> str:
    """Return an annotation as a message shows it."""
    return (
        str(getattr(hint, "__name__", hint))
        if typing.get_origin(hint) is None
        else str(hint).replace("typing.", "")
    )


def takes_several(hint: Any) -> bool:
    """Return whether an annotation asks for several values; a form then repeats the name."""
    hint = _bare(hint)
    if _is_union(hint):
        return all(takes_several(part) for part in typing.get_args(hint) if part is not type(None))
    kind = typing.get_origin(hint) or hint
    return (
        isinstance(kind, type)
        and issubclass(kind, Collection)
        and not issubclass(kind, str | bytes | Mapping | Enum)
    )


def may_be_none(hint: Any) -> bool:
    """Return whether an annotation allows None by name."""
    hint = _bare(hint)
    return hint is type(None) or (
        _is_union(hint) and any(may_be_none(part) for part in typing.get_args(hint))
    )


def is_literal(hint: Any) -> bool:
    """Return whether an annotation is a Literal."""
    return typing.get_origin(hint) is Literal


def parts_of(hint: Any) -> Iterator[Any]:
    """Yield all that stands within an annotation."""
    hint = _bare(hint)
    if not is_literal(hint):
        for part in typing.get_args(hint):
            if part is not ...:
                yield part
                yield from parts_of(part)


def _is_unbound_method(function: Any) -> bool:
    """Return whether a function stands in a class and begins with self or cls."""
    if not inspect.isfunction(function):
        return False
    place = function.__qualname__.rpartition(".")[0]
    first = next(iter(inspect.signature(function).parameters), None)
    return bool(place) and not place.endswith("<locals>") and first in ("self", "cls")


def _bare(hint: Any) -> Any:
    """Return an annotation without its metadata and aliases."""
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)
