"""Replies that a test makes up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..core.reply import Reply


def reply_maker(
    status: int | None, exc: BaseException | type[BaseException] | None, timeout: bool, headers: Mapping[str, str], body: str | bytes
) -> Callable[[], Reply]:
    """What makes the reply that was asked for. Raises ValueError unless it is one of status, exception and timeout."""
    if sum((status is not None, exc is not None, timeout)) != 1:
        raise ValueError("give one of status, exc and timeout=True")
    if timeout or _is(exc, TimeoutError):
        return lambda: Reply(status=None, headers={}, body=b"", kind="timeout", error="no reply within the deadline (played by the test)")
    if _is(exc, ConnectionError):
        return lambda: Reply(status=None, headers={}, body=b"", kind="connection", error=f"the connection failed: {exc!r}")
    if exc is not None:
        return lambda: _raise(exc)
    lower = {name.lower(): value for name, value in headers.items()}
    return lambda: Reply(status=status, headers=lower, body=body.encode() if isinstance(body, str) else body)


def _is(exc: BaseException | type[BaseException] | None, kind: type[BaseException]) -> bool:
    return isinstance(exc, kind) or (isinstance(exc, type) and issubclass(exc, kind))


def _raise(exc: BaseException | type[BaseException]) -> Reply:
    raise exc
