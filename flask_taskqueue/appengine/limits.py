"""App Engine's limits, under the names that its module has for them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

MAX_QUEUE_NAME_LENGTH = 100
MAX_TASK_NAME_LENGTH = 500
MAX_PUSH_TASK_SIZE_BYTES = 100 * 1024
MAX_TASK_SIZE_BYTES = MAX_PUSH_TASK_SIZE_BYTES
MAX_PULL_TASK_SIZE_BYTES = 1024 * 1024
MAX_TRANSACTIONAL_REQUEST_SIZE_BYTES = 1024 * 1024
MAX_TASKS_PER_ADD = 100
MAX_TASKS_PER_LEASE = 1000
MAX_URL_LENGTH = 2083
MAX_TAG_LENGTH = 500
MAX_LEASE_SECONDS = 7 * 24 * 3600
MAX_DISPATCH_DEADLINE = timedelta(hours=24)
MIN_DISPATCH_DEADLINE = timedelta(seconds=15)
MAX_COUNTDOWN_SECONDS = 30 * 24 * 3600
"""How far away an eta may be, in seconds."""


class _DefaultAppVersion:
    def __repr__(self) -> str:
        return "DEFAULT_APP_VERSION"


DEFAULT_APP_VERSION: Final = _DefaultAppVersion()
"""The target of tasks without one: this app, unless their queue has a target."""
