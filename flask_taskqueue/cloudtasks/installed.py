"""Whether the optional packages of the API are installed."""

from __future__ import annotations

from importlib.util import find_spec

from ..core.errors import ConfigurationError


def check_installed(what: str) -> None:
    """Raise `ConfigurationError` unless gRPC and the messages of Cloud Tasks are installed."""
    if find_spec("google") is None or find_spec("google.cloud") is None or not _is_there():
        raise ConfigurationError(
            f"{what} needs google-cloud-tasks: pip install 'Flask-TaskQueue[cloudtasks]'"
        )


def _is_there() -> bool:
    return find_spec("google.cloud.tasks_v2") is not None and find_spec("grpc") is not None
