"""Added queues: queues that are stored rather than configured, and their settings as a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError
from .queue import LIMITS, QueueSettings, check_queue_options

_STORED = ("priority", "tombstone_ttl", "retry", "deadline", "target")
"""What the text holds: everything but the limits, which have columns of their own."""


def stored_settings(queue: QueueSettings) -> str:
    """Return the settings of a queue without its limits, as JSON."""
    known = {name: getattr(queue, name) for name in _STORED}
    if queue.retry is not None:
        known["retry"] = json.loads(queue.retry.to_json())
    told = {name: value for name, value in known.items() if value is not None}
    return json.dumps(told, separators=(",", ":"))


def read_settings(name: str, text: str, limits: Mapping[str, Any]) -> QueueSettings:
    """Return the settings of a queue from its row.

    Raises `ConfigurationError` if they are not those of `stored_settings`.
    """
    try:
        checked = check_queue_options(name, json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f"the settings that are stored for queue {name!r} are malformed: {error}"
        ) from error
    known = {limit: limits[limit] for limit in LIMITS}
    return QueueSettings(name=name, **{**checked, **known})


class KnownQueues(dict[str, QueueSettings]):
    """The settings of queues that this process knows: configured ones, and added ones as last read.

    What is configured counts for a name that was added as well. The settings of an added queue are
    read, and noted here, by the transaction of each claim from it: an attempt has settings at
    least as new as its claim.
    """

    def __init__(self, configured: Mapping[str, QueueSettings]) -> None:
        super().__init__(configured)
        self.configured = configured

    def note(self, queue: QueueSettings) -> None:
        """Note what an added queue's row holds now."""
        if queue.name not in self.configured:
            self[queue.name] = queue
