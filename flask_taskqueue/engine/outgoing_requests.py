"""The requests that deliveries send: where they go, their headers and signatures."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from flask import Flask

from ..core.delivery import signatures
from ..core.delivery.delivery import check_word, check_words, delivery_headers, proof_headers
from ..core.delivery.surface import Surface
from ..core.delivery.verdict import OutgoingRequest
from ..core.errors import ConfigurationError, InvalidTaskError
from ..core.security.targets import Targets
from ..core.settings.app import Settings
from ..core.states import Record
from ..core.tasks.cloudevents import identity_of, is_event
from ..core.tasks.handover import check_filled
from ..core.tasks.packed import unpack
from ..core.tasks.request import check_headers
from ..core.urls import as_host, as_sent, check_path, is_absolute, receiver_of
from .oidc_tokens import OidcTokens
from .own_address import in_process_url, own_subdomain, server_url, subdomain_of
from .transports import Transport
from .transports.wsgi import WsgiTransport

if TYPE_CHECKING:
    from .transports.http import HttpTransport

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Routes:
    """The transports of deliveries, to the application's own paths and to other hosts."""

    def __init__(self, own: Transport, own_url: str, make_remote: Callable[[], Transport]) -> None:
        self.own = own
        """The transport for paths of the application."""
        self.own_url = own_url
        """The URL that its paths are appended to."""
        self._make_remote = make_remote
        self._remote: Transport | None = None
        self._making = threading.Lock()

    @property
    def remote(self) -> Transport:
        """The transport for absolute URLs and targets, made when the first of them is to be sent.

        Many applications have none, and need not wait for the libraries that it imports.
        """
        with self._making:
            if self._remote is None:
                self._remote = self._make_remote()
            return self._remote

    def close(self) -> None:
        """Close the connections."""
        for transport in self._transports():
            transport.close()

    def reset(self) -> None:
        """Forget connections without closing them, because after a fork they are the parent's."""
        self._making = threading.Lock()
        for transport in self._transports():
            transport.reset()

    def _transports(self) -> list[Transport]:
        return [self.own] if self._remote is None else [self.own, self._remote]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that deliveries are signed with, newest first."""

    route: list[bytes] = field(repr=False)
    verdict: list[bytes] = field(repr=False)
    webhook: list[bytes] = field(repr=False)
    fingerprints: tuple[str, ...]
    """The fingerprints by which the tables know their owner."""
    oidc: OidcTokens | None = field(default=None, repr=False)
    """The maker of OpenID Connect tokens, for tasks that ask for one."""

    @classmethod
    def of(cls, secrets: Sequence[str | bytes], oidc: OidcTokens | None = None) -> Keys:
        """Return the keys that are derived from ``secrets``."""
        route, verdict, webhook = (
            signatures.route_keys(secrets),
            signatures.verdict_keys(secrets),
            signatures.webhook_keys(secrets),
        )
        return cls(route, verdict, webhook, signatures.fingerprints(secrets), oidc)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the requests of a worker's tasks have in common."""

    transport: Transport
    url: str
    headers: dict[str, str]
    receiver: str | None
    """The host and port of another application; None for the app's own routes."""
    is_event: bool
    """Whether they are CloudEvents, each with an id and a time of its own."""


class OutgoingRequests:
    """The maker of requests for one application's tasks."""

    def __init__(self, settings: Settings, targets: Targets, routes: Routes, keys: Keys) -> None:
        self._settings = settings
        self._targets = targets
        self._routes = routes
        self._keys = keys
        self._shared = lru_cache(maxsize=256)(self._find_shared)

    def prepare(self, record: Record, *, own: bool) -> tuple[Transport, OutgoingRequest]:
        """Return the transport and the request for a task.

        ``own`` says that it goes to a route of the application.

        Raises `InvalidTaskError`, another error of its kind or what Python's parsers raise, when
        the row was written by hand and cannot be sent.
        """
        if record.method not in _METHODS or not isinstance(record.body, bytes):
            raise InvalidTaskError(
                f"the method is {record.method!r}, the body {type(record.body).__name__}"
            )
        check_words(record)
        if record.follow_up is not None:
            unpack(record.follow_up)
        shared = self._shared(record.queue, record.url, record.target, record.headers, own)
        surface = None if record.surface is None else Surface.stored(record.surface)
        families = self._settings.headers if surface is None else surface.families
        headers = shared.headers | delivery_headers(record, families)
        if surface is not None and self._keys.oidc is not None:
            headers = _authorized(headers, self._keys.oidc.bearer(record, surface))
        if shared.is_event:
            headers |= identity_of(record, shared.headers)
        if own and "taskqueue" not in families:
            headers |= proof_headers(record)
        if own and shared.transport.proves:
            headers |= _identified(record)
        else:
            headers |= self._signed(record, shared.receiver)
        return shared.transport, OutgoingRequest(record.method, shared.url, headers, record.body)

    def _find_shared(
        self, queue: str, url: str, target: str | None, headers: str | None, own: bool
    ) -> _Shared:
        """Return what is equal for all tasks of one worker.

        It is checked, because rows may have been written by hand.
        """
        check_word(queue)
        stored, event = _stored_headers(headers) if headers else ({}, False)
        if own:
            path = self._routes.own_url + check_path(url)
            return _Shared(self._routes.own, path, stored, None, event)
        whole = self._targets.check(url if target is None else target + check_path(url))
        return _Shared(self._routes.remote, whole, stored, receiver_of(whole), event)

    def _signed(self, record: Record, receiver: str | None = None) -> Mapping[str, str]:
        """Return the Standard Webhooks headers for a ``receiver`` or for the app's own routes.

        A path that goes to a target may be a route of the application there, so it carries the
        signatures of both.
        """
        now = int(time.time())
        keys = [] if receiver is None else signatures.receiver_keys(self._keys.webhook, receiver)
        if not is_absolute(record.url):
            path = as_sent(check_path(record.url))
            host = "" if receiver is None else as_host(receiver)
            keys += signatures.attempt_keys(
                self._keys.route, record.method, path, record.queue, record.attempts, host
            )
        return {
            **_identified(record, now),
            "webhook-signature": signatures.sign(keys, record.id, now, record.body),
        }


def _stored_headers(text: str) -> tuple[dict[str, str], bool]:
    """Return the headers of a row, and whether they are those of a CloudEvent."""
    found = json.loads(text)
    check_filled(found)
    headers = check_headers(found)
    return headers, is_event(headers)


def _authorized(headers: dict[str, str], bearer: str | None) -> dict[str, str]:
    """Return headers with this Authorization in place of any other."""
    if bearer is None:
        return headers
    others = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    return {**others, "Authorization": bearer}


def _identified(record: Record, now: int | None = None) -> dict[str, str]:
    """Return the Standard Webhooks headers without the signature.

    They are enough where the transport itself proves the origin.
    """
    return {
        "webhook-id": record.id,
        "webhook-timestamp": str(int(time.time()) if now is None else now),
    }


def find_routes(
    app: Flask, settings: Settings, targets: Targets, base_url: str | None, transport: str
) -> Routes:
    """Return where deliveries go with this transport.

    Raises `ConfigurationError` when the http transport cannot know it, or if ``base_url`` is on
    another subdomain than the settings say.
    """
    remote = partial(_http_transport, settings, objection=targets.objection)
    if transport == "http":
        url = base_url or settings.base_url or server_url(app)
        if url is None:
            raise ConfigurationError(
                "the http transport must know where the application answers: set "
                "TASKQUEUE_BASE_URL "
                "(such as 'http://127.0.0.1:8000'), or SERVER_NAME, or use flask taskqueue "
                "run --base-url"
            )
        _check_subdomain(app, settings, url)
        return Routes(_http_transport(settings), url, remote)
    own = WsgiTransport(app, in_process_url(app, settings), settings.reply_excerpt)
    return Routes(own, "", remote)


def _http_transport(settings: Settings, **options: Any) -> HttpTransport:
    """Return a transport of real requests, for which requests and urllib3 are imported."""
    from .transports.http import HttpTransport

    return HttpTransport(
        reply_cap=settings.reply_excerpt, connect_timeout=settings.connect_timeout, **options
    )


def _check_subdomain(app: Flask, settings: Settings, url: str) -> None:
    """Raise `ConfigurationError` if tasks would be sent to another subdomain than they are for.

    There another route may answer the same path.
    """
    if subdomain_of(app, url) != own_subdomain(app, settings):
        raise ConfigurationError(
            f"tasks would be sent to {url}, but are added for routes on the subdomain of "
            f"{in_process_url(app, settings)}: set TASKQUEUE_BASE_URL, in every process, to where "
            "they are to go"
        )
