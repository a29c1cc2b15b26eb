"""The delivery that a request is, or claims to be, and the verdict on the view that it is for."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from tempfile import SpooledTemporaryFile
from types import MethodType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Request, Response, has_request_context, request
from werkzeug.routing import RequestRedirect, Rule
from werkzeug.wsgi import FileWrapper

from ..core.delivery import verdict as verdicts
from ..core.delivery.delivery import Delivery
from ..core.delivery.verdict import Verdict
from ..core.errors import PermanentFailure, shown
from .incoming import IncomingRequest

View = Callable[..., Any]
V = TypeVar("V", bound=View)
Keep = Callable[[Delivery | IncomingRequest, BaseException], object]
"""A function that keeps what a view raised."""


@dataclass(slots=True)
class _Claim:
    app: Flask
    delivery: Delivery | IncomingRequest
    request: Request | None = None
    """The request that makes the claim: the first one that begins."""


_IN_MEMORY = 1_048_576
"""The most bytes of a body that are kept in memory until it is sent."""
_JUDGES = "taskqueue_judges_itself"
_claim: ContextVar[_Claim | None] = ContextVar("flask_taskqueue.claim", default=None)


def claim_next(app: Flask, delivery: Delivery | IncomingRequest | None) -> Callable[[], None]:
    """Have the next request of an app be this delivery; with None, have it be none.

    Returns what ends that.
    """
    token = _claim.set(None if delivery is None else _Claim(app, delivery))
    return lambda: _claim.reset(token)


def begin_request(app: Flask) -> None:
    """Note the request that has just begun as the one that makes the claim, if it is the first."""
    found = _claim.get()
    if found is not None and found.request is None and found.app is app:
        found.request = _request()


def is_within_delivery(app: Flask | None = None) -> bool:
    """Return whether a delivery to an app, or to any, is being answered here."""
    found = _claim.get()
    return found is not None and app in (None, found.app)


def claimed_delivery(app: Flask) -> Delivery | IncomingRequest | None:
    """Return the current request's delivery, on which to put the verdict on its view.

    Over HTTP the delivery may be a claim that is not proven yet. None if the request is no delivery
    to this app. One that is made within a delivery, perhaps by the same view, is none.
    """
    found = _claim.get()
    if found is None or found.app is not app:
        return None
    if found.request is not None and has_request_context() and found.request is not _request():
        return None
    return found.delivery


def judges_itself(view: V) -> V:
    """Mark a method as a view that gives the verdict on itself, so that nobody need watch it.

    A function around it, that a decorator has made, is watched.
    """
    setattr(view, _JUDGES, True)
    return view


def watch(app: Flask, keep: Keep) -> None:
    """Have verdicts come from the views that deliveries are for, whatever calls them.

    ``keep`` is called with what a view raises.
    """
    app.view_functions = _Views(app, app.view_functions, keep)


def is_watched(app: Flask) -> bool:
    """Return whether an app's views are watched still; another extension may replace them."""
    return isinstance(app.view_functions, _Views)


class _Views(dict[str, View]):
    """An app's views by endpoint, of which the one that the request is a delivery for is watched.

    Whatever dispatches a request, Flask or a method that the app has in its place, looks the view
    up here. So a verdict tells what the view did, and not what was made of it.
    """

    def __init__(self, app: Flask, views: dict[str, View], keep: Keep) -> None:
        super().__init__(views)
        self._app = app
        self._keep = keep

    def __getitem__(self, endpoint: str) -> View:
        view = super().__getitem__(endpoint)
        if _claim.get() is None or (type(view) is MethodType and _JUDGES in view.__dict__):
            return view
        claimed = claimed_delivery(self._app)
        if claimed is None or request.endpoint != endpoint:
            return view
        return self._watched(view, claimed)

    def _watched(self, view: View, claimed: Delivery | IncomingRequest) -> View:
        noting = _Noting(self._app, claimed, self._keep)
        if iscoroutinefunction(view):

            @wraps(view)
            async def watched_coroutine(*args: Any, **kwargs: Any) -> Any:
                with noting:
                    return noting.returned(await view(*args, **kwargs))

            return watched_coroutine

        @wraps(view)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with noting:
                return noting.returned(view(*args, **kwargs))

        return watched


@dataclass(frozen=True, slots=True)
class _Noting:
    """A note on a claim of what its view returns or raises.

    A verdict that the view has already given itself is kept.
    """

    app: Flask
    claim: Delivery | IncomingRequest
    keep: Keep

    def __enter__(self) -> None:
        """Begin to call the view."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and self.claim.verdict is None:
            self.claim.verdict = verdicts.raised(error)
            self.keep(self.claim, error)

    def returned(self, answer: Any) -> Any:
        """Note what the view has returned, and return it as a response."""
        if self.claim.verdict is None:
            answer = self.app.make_response(answer)
            self.claim.verdict = returned(answer)
        return answer


def returned(response: Response) -> Verdict:
    """Return the verdict on a view that returned this response.

    The response's body is run to its end first, so that a failure in it counts as the view's; but a
    file, in which nothing of the view runs, is read when it is sent. Raises `PermanentFailure` for
    a status that no response can have.
    """
    if not response.is_sequence and not _is_file(response):
        _run_body(response)
    status = response.status_code
    if not 100 <= status <= 999:
        raise PermanentFailure(
            f"the handler returned the status {shown(status)}; a status is a number from 100 to "
            "999, the second of what a view returns: return a body, (body, status) or (body, "
            "status, headers)"
        )
    return (
        verdicts.returned(status)
        if 200 <= status < 300
        else verdicts.returned(status, response.headers.get("Retry-After"))
    )


def _run_body(response: Response) -> None:
    """Run the body of a response to its end, and keep what it gives, a large one in a file."""
    response.direct_passthrough = False
    spool = SpooledTemporaryFile(max_size=_IN_MEMORY)
    body = response.response
    try:
        for piece in response.iter_encoded():
            spool.write(piece)
        size = spool.tell()
        spool.seek(0)
        response.response = [spool.read()] if size <= _IN_MEMORY else FileWrapper(spool)
    except BaseException:
        spool.close()
        raise
    finally:
        if hasattr(body, "close"):
            body.close()
    response.call_on_close(spool.close)


def _is_file(response: Response) -> bool:
    """Return whether the body is a file, wrapped by werkzeug or by the server (PEP 3333)."""
    server = request.environ.get("wsgi.file_wrapper")
    return isinstance(
        response.response, (FileWrapper, server) if isinstance(server, type) else FileWrapper
    )


def of_routing(error: Exception) -> Verdict | None:
    """Return the verdict if an error says that the app has no view for a request.

    A redirect by the URL map is none of the app's: it names the only URL that has a route.
    """
    if error is not request.routing_exception:
        return None
    moved = urlsplit(error.new_url).path if isinstance(error, RequestRedirect) else None
    return Verdict("no-route", error=moved)


def is_automatic(rule: Rule | None, method: str) -> bool:
    """Return whether Flask itself answers a method of a rule, without calling the view."""
    return method == "OPTIONS" and bool(getattr(rule, "provide_automatic_options", False))


def _request() -> Request:
    found: Request = request._get_current_object()  # type: ignore[attr-defined]
    return found
