"""The surface: the other product's API that a task came in by, and what that API promised it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InvalidTaskError, shown

Api = Literal["cloudtasks", "appengine"]
_APIS = ("cloudtasks", "appengine")
_KINDS = (None, "http", "appengine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """How a task was added, if not by this package's own API.

    ``api`` is the product whose clients added it, ``kind`` is what kind of target it named there:
    "http" or "appengine". Its deliveries have the headers of that product, whatever
    ``TASKQUEUE_HEADERS`` says. ``oidc`` holds the account and the audience of the token that its
    deliveries carry.
    """

    api: Api
    kind: str | None = None
    oidc: Mapping[str, str] | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """The families of task headers that a delivery has."""
        if self.api == "cloudtasks" and self.kind != "appengine":
            return ("cloudtasks",)
        return ("appengine",) if self.api == "appengine" else ("appengine", "cloudtasks")

    def to_json(self) -> str:
        """Return the text that is stored."""
        given = {"api": self.api, "kind": self.kind, "oidc": self.oidc}
        present = {name: value for name, value in given.items() if value is not None}
        return json.dumps(present, separators=(",", ":"))

    @classmethod
    def stored(cls, text: str) -> Surface:
        """Return the surface of a row.

        Raises `InvalidTaskError` for a text that was written by hand and is none.
        """
        try:
            found = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidTaskError("the surface of the task is not JSON") from error
        if not (
            isinstance(found, dict)
            and found.keys() <= {"api", "kind", "oidc"}
            and found.get("api") in _APIS
            and found.get("kind") in _KINDS
            and _is_token(found.get("oidc"))
        ):
            raise InvalidTaskError(f"the surface of the task is {shown(text)}")
        return cls(**found)


def _is_token(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and all(isinstance(part, str) for pair in value.items() for part in pair)
    )
