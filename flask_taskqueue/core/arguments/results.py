"""The results of task functions, as JSON, and the work that is still to be done in them."""

from __future__ import annotations

import inspect
import json
from collections import deque
from collections.abc import Iterable, Iterator, ValuesView
from concurrent.futures import Future
from multiprocessing.pool import ApplyResult
from typing import Any

from ..json_text import dumps
from .converter import plain

_OF_PYTHON = ("builtins", "itertools")
_SEVERAL = (list, tuple, set, frozenset, deque, ValuesView)


def result_json(value: Any) -> str:
    """Return what a function returned as JSON.

    Keys that are numbers become texts. Raises one of `BAD_VALUE` for what JSON cannot hold.
    """
    text = dumps(plain(value))
    json.loads(text, object_pairs_hook=_check_keys)
    return text


def unfinished(result: Any) -> Any:
    """Return the part of a result whose work has not run, or has not been waited for; or None.

    That is an iterator of Python's own (a generator, ``map()``, what itertools makes), an
    awaitable, a future, or a context manager made from a generator, anywhere in the result; or a
    function that is the whole result, because somebody has not called it. Other iterators may be
    open files or rows of a database, whose work is done.
    """
    if inspect.isroutine(result):
        return result
    rest, seen = [result], set[int]()
    while rest:
        part = rest.pop()
        if _is_unfinished(part):
            return part
        if id(part) not in seen:
            seen.add(id(part))
            rest.extend(_members(part))
    return None


def is_context(value: Any) -> bool:
    """Return whether this is what `contextlib.contextmanager` makes of a generator.

    Nobody would run the body of such a generator.
    """
    made_of = getattr(value, "gen", None)
    return inspect.isgenerator(made_of) or inspect.isasyncgen(made_of)


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("two keys of an object become the same text")


def _is_unfinished(part: Any) -> bool:
    return (
        (isinstance(part, Iterator) and type(part).__module__ in _OF_PYTHON)
        or isinstance(part, Future | ApplyResult)
        or inspect.isawaitable(part)
        or inspect.isasyncgen(part)
        or is_context(part)
    )


def _members(part: Any) -> Iterable[Any]:
    if isinstance(part, dict):
        return part.values()
    if isinstance(part, _SEVERAL):
        return part
    kind = type(part)
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__"):
        return getattr(part, "__dict__", {}).values()
    return ()
