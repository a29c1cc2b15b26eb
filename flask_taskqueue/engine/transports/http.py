"""The http transport: a real request, over requests."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
from typing import Literal

import requests
import urllib3.exceptions
from requests.adapters import BaseAdapter
from requests.models import PreparedRequest

from ...core.delivery import Delivery
from ...core.reply import OutgoingRequest, Reply
from .deadline_http import AddressRefusedError, DeadlineAdapter, Objection, deadline, no_objection, tls_context

_LOOKUP_THREADS = 4
_CHUNK = 4096
_USER_AGENT = "Flask-TaskQueue"


class HttpTransport:
    """One requests session per thread, its connections kept open between tasks.

    The deadline is total. Redirects are never followed, nor their bodies read. Proxies, netrc and
    cookies of the environment have no part. A reply is read up to ``reply_cap`` bytes, as sent
    (identity encoding), and not drained beyond.
    """

    proves = False

    def __init__(
        self, *, reply_cap: int, connect_timeout: float, ca_bundle: str | None = None, objection: Objection = no_objection
    ) -> None:
        self._cap = reply_cap
        self._connect_timeout = connect_timeout
        self._ca_bundle = ca_bundle
        self._objection = objection
        self.reset()

    def reset(self) -> None:
        """Forget sessions and threads without closing anything: after a fork they are the parent's."""
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._lookups = concurrent.futures.ThreadPoolExecutor(_LOOKUP_THREADS, "taskqueue-lookup")

    def close(self) -> None:
        """Close every connection."""
        for session in self._sessions:
            session.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Send a request; trouble on the way is told by the reply, not raised."""
        return contextvars.copy_context().run(self._send, request, delivery)

    def _send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        deadline.set(delivery.expires)
        session, adapter = self._session()
        try:
            response = adapter.send(
                _prepared(session, request), stream=True, timeout=(self._connect_timeout, None), verify=True, proxies={}
            )
            return self._read(response)
        except requests.exceptions.RequestException as error:
            return _trouble(error, delivery)
        except (urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            return _trouble(error, delivery)

    def _read(self, response: requests.Response) -> Reply:
        body = b""
        redirected = 300 <= response.status_code < 400
        try:
            if not redirected:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    body += chunk
                    if len(body) > self._cap:
                        break
        finally:
            truncated = redirected or len(body) > self._cap
            if truncated:
                response.raw.close()  # otherwise the rest would be read before the connection is used again
            else:
                response.raw.release_conn()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status_code, headers=headers, body=body[: self._cap], truncated=len(body) > self._cap)

    def _session(self) -> tuple[requests.Session, BaseAdapter]:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            session.headers.clear()
            session.headers.update({"User-Agent": _USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"})
            self._local.adapter = DeadlineAdapter(self._lookups, tls_context(self._ca_bundle), self._objection)
            session.mount("http://", self._local.adapter)
            session.mount("https://", self._local.adapter)
            self._local.session = session
            self._sessions.append(session)
        return session, self._local.adapter


def _prepared(session: requests.Session, request: OutgoingRequest) -> PreparedRequest:
    prepared = requests.Request(request.method, request.url, headers=dict(request.headers), data=request.body or None)
    return session.prepare_request(prepared)


def _trouble(error: Exception, delivery: Delivery) -> Reply:
    """A reply that says what went wrong, in words of ours: those of requests hold the whole URL."""
    kind: Literal["timeout", "connection", "tls", "refused"]
    causes = _causes(error)
    if isinstance(error, AddressRefusedError):
        kind, text = "refused", str(error)
    elif any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes):  # of which ConnectTimeoutError is a base
        kind, text = "connection", f"the connection failed: {_root(causes)}"
    elif any(isinstance(cause, urllib3.exceptions.ConnectTimeoutError) for cause in causes):
        kind, text = "timeout", "no connection within the time allowed"
    elif any(isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError) for cause in causes):
        kind, text = "timeout", f"no reply within the deadline of {delivery.expires - delivery.started:g} s"
    elif any(isinstance(cause, requests.exceptions.SSLError | urllib3.exceptions.SSLError) for cause in causes):
        kind, text = "tls", "the TLS certificate was not accepted, or the handshake failed"
    else:
        kind, text = "connection", f"the connection failed: {_root(causes)}"
    return Reply(status=None, headers={}, body=b"", error=text, kind=kind)


def _causes(error: BaseException) -> list[BaseException]:
    """The error, and those it was raised for."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in found:
            found.append(one)
            reason = getattr(one, "reason", None)
            inner = [argument for argument in one.args if isinstance(argument, BaseException)]
            waiting += [one.__cause__, one.__context__, reason if isinstance(reason, BaseException) else None, *inner]
    return found


def _root(causes: list[BaseException]) -> str:
    system = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return str(system[-1].strerror) if system else type(causes[-1]).__name__
