"""A call of a handler, as it is added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Call(dict[str, Any]):
    """What a handler is to be called with: texts for a form, and in ``given`` the arguments as they were.

    The variables of its URL are made of ``given``: only the application knows them all.
    """

    __slots__ = ("given",)

    def __init__(self, texts: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__(texts)
        self.given = given
