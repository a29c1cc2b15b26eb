"""Functions that tests defer, as the modules of an app have them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from enum import Enum
from os import system
from typing import Any

from flask_taskqueue.appengine import deferred

__all__ = ["subprocess", "system"]

CALLS: list[Any] = []


class Color(Enum):
    """A member of this is stored by its name."""

    RED = 1


class Report:
    """A class whose methods are called."""

    total = 0

    class Inner:
        """Within another."""

        @classmethod
        def make(cls, number: int) -> None:
            """Be called with the class."""
            CALLS.append((cls, number))

    @classmethod
    def make(cls, number: int) -> None:
        """Be called with the class."""
        CALLS.append((cls, number))

    @staticmethod
    def count(number: int) -> None:
        """Be called without it."""
        CALLS.append(("static", number))

    def render(self) -> None:
        """Be called with an object, which is no row."""
        CALLS.append("rendered")


class Monthly(Report):
    """A class that inherits its methods."""


def record(*args: Any, **kwargs: Any) -> str:
    """Record what it is called with."""
    CALLS.append((args, kwargs))
    return "a reply that nobody reads"


def two(first: int, second: int = 2) -> None:
    """Have parameters that not everything fits."""
    CALLS.append((first, second))


def call(function: Callable[..., Any], *args: Any) -> None:
    """Call what it is given."""
    function(*args)


async def wait(number: int) -> None:
    """Be waited for."""
    await asyncio.sleep(0)
    CALLS.append(number)


def generate() -> Iterator[int]:
    """Yield, which does nothing by itself."""
    CALLS.append("never")
    yield 1


def fail() -> None:
    """Fail as code does."""
    CALLS.append("failed")
    raise ValueError("a mistake")


def fail_for_good() -> None:
    """Fail in App Engine's words."""
    CALLS.append("failed")
    raise deferred.PermanentTaskFailure("there is no such order")


def fail_once() -> None:
    """Fail quietly at first."""
    CALLS.append("tried")
    if len(CALLS) < 2:
        raise deferred.SingularTaskFailure


def _private() -> None:
    """Be nobody's business."""
    CALLS.append("private")


made = type("Made", (), {"__module__": __name__, "attack": system})
