"""Whether the optional packages of the API are installed."""

from __future__ import annotations

from importlib.util import find_spec

from ..core.errors import ConfigurationError

_NEEDED = ("grpc", "google", "google.cloud", "google.cloud.tasks_v2")
"""Each after the packages that it is in, without which it cannot be looked for."""


def check_installed(what: str) -> None:
    """Raise `ConfigurationError` unless gRPC and the messages of Cloud Tasks are installed."""
    if any(find_spec(name) is None for name in _NEEDED):
        raise ConfigurationError(
            f"{what} needs google-cloud-tasks: pip install 'Flask-TaskQueue[cloudtasks]'"
        )
