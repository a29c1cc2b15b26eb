"""Services: the names that a ``target`` may have, as App Engine's services and versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidUrlError, shown
from . import checks

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}(?:\.[a-z0-9][a-z0-9-]{0,62})?", re.ASCII)


def default_services() -> Mapping[str, str | None]:
    """Return the service that always exists: the app itself."""
    return {"default": None}


def parse_services(key: str, value: Any) -> Mapping[str, str | None]:
    """Return the base URL of each service by its name; None means this app.

    Raises `ConfigurationError`.
    """
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) for name in value
    ):
        checks.refuse(
            key,
            value,
            "a mapping from App Engine's names, such as 'worker', 'v2' or 'v2.worker', to base "
            "URLs, or None for this app",
        )
    urls = {
        name: None if url is None else checks.base_url(f"{key}[{name!r}]", url)
        for name, url in value.items()
    }
    return {**default_services(), **urls}


def service_url(services: Mapping[str, str | None], name: str) -> str | None:
    """Return the base URL of a service; None if this app answers for it.

    Raises `InvalidUrlError` for a name that is not configured.
    """
    if name not in services:
        raise InvalidUrlError(
            f"target {shown(name)} is neither a base URL such as 'https://app.example.com' nor "
            f"in TASKQUEUE_SERVICES, which has {', '.join(sorted(services))}: add it there with "
            "the base URL of that service, or with None if this app answers for it"
        )
    return services[name]
