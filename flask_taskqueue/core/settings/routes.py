"""The settings of the routes that an app has for others: pages, monitoring, progress and an API."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import checks
from .declared import key as _key


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """The checked settings of those routes; none of them has to be there."""

    dashboard: bool = _key(False, checks.boolean, "Whether the application has the dashboard.")
    dashboard_url_prefix: str = _key("/taskqueue", checks.url_prefix, "Where the dashboard is.")
    dashboard_title: str | None = _key(
        None, checks.text, "What the dashboard is headed; by default the application's name."
    )
    dashboard_access: Callable[[], Any] | None = _key(  # noqa: RUF009 - None, or a function
        None,
        checks.function,
        'Says what whoever asks may do: True, ``"read"``, a set of permissions, or nothing.',
    )
    dashboard_user: Callable[[], Any] | None = _key(  # noqa: RUF009 - None, or a function
        None, checks.function, "Says who asks, for the audit log."
    )
    dashboard_username: str | None = _key(
        None, checks.text, "Opens the dashboard to this user, with the password."
    )
    dashboard_password: str | None = _key(
        None, checks.password, "The user's password.", secret=True
    )
    dashboard_read_only: bool = _key(
        False, checks.boolean, "Whether the dashboard only shows, whoever asks."
    )
    dashboard_page_size: int = _key(50, checks.count(1, 200), "How many tasks a page lists.")
    dashboard_poll: float = _key(
        5.0,
        checks.duration(2, 3600),
        "Seconds after which a page refreshes itself, until its viewer chooses.",
    )
    dashboard_trusted_origins: tuple[str, ...] = _key(
        (),
        checks.origins,
        "Origins beside its own from which actions are accepted, such as "
        "``https://admin.example.com``.",
    )
    progress: bool = _key(
        False,
        checks.boolean,
        "Whether pages can ask how far a task has come, at the URL of tasks.progress_url().",
    )
    progress_url: str = _key(
        "/taskqueue/progress", checks.path, "What the URLs of tasks.progress_url() are below."
    )
    metrics: bool = _key(
        False, checks.boolean, "Whether the application has a route with metrics for Prometheus."
    )
    metrics_url: str = _key("/taskqueue/metrics", checks.path, "Where the metrics are.")
    metrics_token: str | None = _key(
        None,
        checks.token,
        "The bearer token for which the metrics, and the details of health, are given.",
        secret=True,
    )
    metrics_access: Callable[[], Any] | None = _key(  # noqa: RUF009 - None, or a function
        None,
        checks.function,
        "Says whether whoever asks may read the metrics and the details of health: True, or "
        "nothing.",
    )
    health: bool = _key(
        True,
        checks.boolean,
        "Whether the application has the routes live, ready and dispatcher for health checks.",
    )
    health_url: str = _key(
        "/taskqueue/health", checks.path, "What the routes for health checks are below."
    )
    health_max_latency: float = _key(
        300.0,
        checks.duration(0, math.inf),
        "Seconds that a due task may wait for its attempt before the dispatcher counts as "
        "unhealthy.",
    )
    api: bool = _key(
        False, checks.boolean, "Whether the application answers Google Cloud Tasks' clients."
    )
    api_url_prefix: str = _key(
        "/taskqueue/api",
        checks.url_prefix_or_root,
        "Where it answers them; an empty text is the root, which some clients need.",
    )
    api_token: str | None = _key(
        None,
        checks.token,
        "The token for which they are answered, as a bearer token or an API key.",
        secret=True,
    )
    api_access: Callable[[], Any] | None = _key(  # noqa: RUF009 - None, or a function
        None, checks.function, "Says whether whoever asks is answered: True, or nothing."
    )
    api_parent: str | None = _key(
        None,
        checks.location,
        "The only project and location that it answers for; by default any.",
    )
    oidc_key: tuple[str, ...] = _key(
        (),
        checks.private_keys,
        "The RSA key, or several, newest first, that signs the OpenID Connect tokens for which "
        "Cloud Tasks' clients ask.",
        secret=True,
    )
