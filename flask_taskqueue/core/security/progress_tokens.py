"""Tokens of progress: each lets whoever has it see how far one task has come, and nothing else."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from ..delivery.signatures import derive

_PURPOSE = "flask-taskqueue/progress/v1"


def progress_token(secrets: Sequence[str | bytes], task_id: str) -> str:
    """Return the token of a task: its id, and a signature by the newest secret."""
    return f"{task_id}.{_signature(secrets[0], task_id)}"


def task_of_token(secrets: Sequence[str | bytes], token: str) -> str | None:
    """Return the id of a token's task; None if none of the secrets has signed it."""
    task_id, _, signature = token.partition(".")
    given, found = signature.encode("utf-8", "replace"), False
    for secret in secrets:
        found |= hmac.compare_digest(_signature(secret, task_id).encode(), given)
    return task_id if found else None


def _signature(secret: str | bytes, task_id: str) -> str:
    signed = task_id.encode("utf-8", "replace")
    mac = hmac.digest(derive(secret, _PURPOSE), signed, "sha256")
    return urlsafe_b64encode(mac).decode().rstrip("=")
