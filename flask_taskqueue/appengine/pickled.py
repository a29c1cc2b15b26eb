"""Pickled calls, each signed for its own task.

Whoever can write a pickle that is loaded runs whatever code they like. So nothing is loaded before
its signature is verified: it is made with a key that is derived from the app's secret, and bound to
the id of the task. A leaked secret is code execution.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from typing import Any

from itsdangerous import BadSignature, Signer

from ..core.delivery.signatures import derive
from ..core.errors import InvalidTaskError, PermanentFailure, shown

MARK = b"pickle:"
"""What a pickled body begins with, which no JSON does."""


class Pickles:
    """A writer and reader of signed pickles. ``secrets`` are the app's, newest first."""

    def __init__(self, secrets: Sequence[str | bytes]) -> None:
        self._keys = [derive(secret, "flask-taskqueue/deferred/v1") for secret in reversed(secrets)]

    def write(self, call: Any, task_id: str) -> bytes:
        """Return a call as the body of this task. Raises `InvalidTaskError`."""
        try:
            body = MARK + pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidTaskError(f"the call cannot be pickled: {error}") from error
        return bytes(self._signer(task_id).sign(body))

    def read(self, body: bytes, task_id: str) -> Any:
        """Return the call that was written for this task.

        Raises `PermanentFailure` for anything else, before any of it is loaded.
        """
        try:
            signed = self._signer(task_id).unsign(body)
        except BadSignature as error:
            raise PermanentFailure(
                "the pickle is not signed for this task by the app's secret, so it was not loaded"
            ) from error
        try:
            return pickle.loads(signed[len(MARK) :])
        except (pickle.UnpicklingError, AttributeError, ImportError, EOFError) as error:
            raise PermanentFailure(
                f"the pickle cannot be loaded any more: {shown(error)}"
            ) from error

    def _signer(self, task_id: str) -> Signer:
        return Signer(
            self._keys,
            salt=f"flask-taskqueue/deferred/{task_id}",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )
