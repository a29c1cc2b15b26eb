"""One rpc of the Cloud Tasks API: its name, its path, and its messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from ..core.rpc.messages import Message

_CLOUD_TASKS = "google.cloud.tasks.{version}.CloudTasks"
_VARIABLE = re.compile(r"\{([a-z_.]+)=([^}]*)\}")


@dataclass(frozen=True)
class Rpc:
    """One rpc of one version.

    ``path`` is its template below the version, as ``google.api.http`` writes it. ``body`` names the
    field that the body of its request is, "*" for all fields, or None for no body.
    """

    name: str
    verb: str
    path: str
    request: Message
    reply: Message
    body: str | None
    doc: str
    service: str = _CLOUD_TASKS
    version: str = "v2"

    @property
    def grpc_path(self) -> str:
        """The path by which gRPC knows it."""
        return f"/{self.service.format(version=self.version)}/{self.name}"

    @property
    def variable(self) -> str:
        """The field that the path names, such as ``parent`` or ``queue.name``."""
        match = _VARIABLE.search(self.path)
        return "" if match is None else match[1]

    @property
    def form(self) -> str:
        """The form of the value of that field, such as ``projects/*/locations/*``."""
        match = _VARIABLE.search(self.path)
        return "" if match is None else match[2]

    @property
    def suffix(self) -> str:
        """The part of the path after the variable, such as ``/tasks`` or ``:run``."""
        return _VARIABLE.sub("", self.path, count=1)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The regular expression of its path, whose group is the variable."""
        form = re.escape(self.form).replace(r"\*", "[^/]+")
        return re.compile(f"({form}){re.escape(self.suffix)}")
