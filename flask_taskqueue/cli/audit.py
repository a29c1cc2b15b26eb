"""Who runs a command, and its entry in the audit log."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..api.audit import Actor, AuditEntry, recorded, selection_subject
from ..core.security.redaction import Redaction
from ..core.times import to_datetime, utc
from ..runtime import Runtime
from ..store import Filter


def user_name() -> str:
    """Return who runs the command: the name of the user, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container's user often has no name
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def entry_of(runtime: Runtime, action: str, subject: str | Callable[[Any], str]) -> AuditEntry:
    """Return the entry of a command, with the user and the host."""
    return AuditEntry(runtime, Actor(user_name(), f"host {socket.gethostname()}"), action, subject)


@contextmanager
def logged(
    runtime: Runtime, action: str, subject: str | Callable[[Any], str]
) -> Iterator[AuditEntry]:
    """Write the entry of a command in the transaction of the change that is made within."""
    with recorded(runtime, entry_of(runtime, action, subject)) as entry:
        yield entry


def subject_of_ids(ids: Sequence[str]) -> str:
    """Name the tasks that were given by their ids."""
    return ids[0] if len(ids) == 1 else f"{len(ids)} selected: {', '.join(ids)}"


def subject_of_filter(runtime: Runtime, task_filter: Filter, default: str = "all") -> str:
    """Describe the tasks that a filter selects; ``default`` is said where it names no state."""
    status, since = task_filter.status, task_filter.since
    url = task_filter.url
    given = {
        "queue": task_filter.queue,
        "name": task_filter.name,
        "status": None if status is None else status.reason or f"{status.low}-{status.high}",
        "attempts": task_filter.attempts_at_least,
        "since": None if since is None else utc(to_datetime(since)),
        "url": None if url is None else Redaction(runtime.settings.redact).url(url),
        "q": task_filter.search,
    }
    state = default if task_filter.state is None else task_filter.state.value
    return selection_subject(
        state, {name: value for name, value in given.items() if value is not None}
    )
