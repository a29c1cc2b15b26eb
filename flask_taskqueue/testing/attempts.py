"""Attempts, as a test sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.delivery.verdict import Reply, complete_body, json_body
from ..core.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A delivery and its outcome.

    ``task`` is the task afterwards. ``status`` is None without a reply. ``outcome`` is "success",
    "failure", "timeout", "connection", "permanent" or, for a simulated crash, "crash".
    ``retry_in`` is in seconds, or None if the task is not retried. ``exception`` is what the
    handler raised past its error handlers. ``truncated`` says whether ``body`` is only the
    beginning of the reply's body (``TASKQUEUE_REPLY_EXCERPT``).
    """

    task: Task
    status: int | None
    outcome: str
    error: str | None = None
    retry_in: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
    exception: BaseException | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether it received a 2xx response."""
        return self.outcome == "success"

    @property
    def text(self) -> str:
        """The reply's body as text; raises as `Result.text` does."""
        return complete_body(self.body, self.truncated, self.headers).decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The reply's body, decoded from JSON; None if its status is 204.

        Raises as `Result.json` does.
        """
        if self.status == 204:
            return None
        return json_body(self.body, self.truncated, self.headers)

    def __str__(self) -> str:
        error = f": {self.error}" if self.error else ""
        return (
            f"{self.task.method} {self.task.url} attempt {self.task.attempts} → "
            f"{self.status or self.outcome}{error}"
        )


class Run(tuple[Attempt, ...]):
    """The attempts that one call made, in order."""

    __slots__ = ()

    @property
    def ok(self) -> bool:
        """Whether all of them received a 2xx response."""
        return all(attempt.ok for attempt in self)

    @property
    def failed(self) -> list[Attempt]:
        """The attempts that did not succeed."""
        return [attempt for attempt in self if not attempt.ok]


def reply_maker(
    status: int | None,
    exc: BaseException | type[BaseException] | None,
    timeout: bool,
    headers: Mapping[str, str],
    body: str | bytes,
) -> Callable[[], Reply] | None:
    """Return a function that makes the reply a test asks for; None if the handler is to raise.

    Raises ValueError unless exactly one of status, exception and timeout is given.
    """
    if sum((status is not None, exc is not None, timeout)) != 1:
        raise ValueError("give one of status, exc and timeout=True")
    if timeout or _is(exc, TimeoutError):
        return lambda: Reply(
            status=None,
            headers={},
            body=b"",
            kind="timeout",
            error="no reply within the deadline (played by the test)",
        )
    if _is(exc, ConnectionError):
        return lambda: Reply(
            status=None,
            headers={},
            body=b"",
            kind="connection",
            error=f"the connection failed: {exc!r}",
        )
    if exc is not None:
        return None
    lower = {name.lower(): str(value) for name, value in headers.items()}
    return lambda: Reply(
        status=status, headers=lower, body=body.encode() if isinstance(body, str) else body
    )


def endless(attempts: Sequence[Attempt], url: str) -> str:
    """Say which tasks were attempted most when a run came to its limit and ``url`` was due."""
    counts = Counter(attempt.task.url for attempt in attempts)
    most = ", ".join(f"{each} {count} times" for each, count in counts.most_common(3))
    return (
        f"after {len(attempts)} attempts ({most}) {url} is due: do tasks add tasks forever? "
        "max_tasks allows more"
    )


def _is(exc: BaseException | type[BaseException] | None, kind: type[BaseException]) -> bool:
    return isinstance(exc, kind) or (isinstance(exc, type) and issubclass(exc, kind))
