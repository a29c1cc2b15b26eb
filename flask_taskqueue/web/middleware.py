"""Middleware that reports what became of a task's view.

The view is watched where the app calls it, and the verdict is added to the reply outside of the
app, where the app cannot change it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, got_request_exception, request

from ..core.delivery import verdict as verdicts
from ..core.delivery.delivery import ENVIRON_KEY, Delivery
from ..core.delivery.verdict import Verdict
from ..core.failures import traceback_excerpt
from ..process.logs import get_logger
from ..process.signal_handlers import is_of_signal
from ..runtime import Runtime
from .claimed_request import (
    begin_request,
    claim_next,
    claimed_delivery,
    is_automatic,
    is_watched,
    is_within_delivery,
    of_routing,
    watch,
)
from .forwarded import NAME_KEY, CloudTasksEndpoint
from .incoming import IncomingRequest, receive

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_logger = get_logger()

_EXTENSION_KEY = "flask_taskqueue.middleware"
_SIGNATURE = "HTTP_WEBHOOK_SIGNATURE"


def keep_traceback(app: Flask, claim: Delivery | IncomingRequest, error: BaseException) -> None:
    """Keep the traceback of what a view raised with its delivery.

    Over HTTP only a worker's view has one, because it alone has looked for the lease.
    """
    delivery = claim if isinstance(claim, Delivery) else claim.delivery
    if delivery is not None:
        runtime: Runtime = app.extensions["taskqueue"]
        delivery.traceback = traceback_excerpt(error, runtime.settings.traceback_excerpt)


def install(app: Flask) -> None:
    """Put the middleware around an app, once."""
    if _EXTENSION_KEY not in app.extensions:
        app.extensions[_EXTENSION_KEY] = DeliveryMiddleware(app)
        got_request_exception.connect(_note_report, app)


def _note_report(app: Flask, **_: Any) -> None:
    """Note that Flask has reported an exception: it has logged it or raises it."""
    claim = claimed_delivery(app)
    if claim is not None:
        claim.reported = True


class DeliveryMiddleware:
    """Middleware that receives deliveries over HTTP and adds the signed verdict to replies.

    It also observes which views run. It is the app's ``wsgi_app``, inside of whatever is wrapped
    around that later. Requests without a signature of Standard Webhooks pass through unchanged.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._inner: WSGIApplication = app.wsgi_app
        self._dispatch: Callable[..., Any] | None = None
        self._cloud_tasks = CloudTasksEndpoint(app)
        self._answer_request: Callable[..., Any] = app.full_dispatch_request
        app.full_dispatch_request = self._full_dispatch_request  # type: ignore[method-assign]
        self._report: Callable[..., Any] = app.handle_exception
        app.handle_exception = self._handle_exception  # type: ignore[assignment, method-assign]
        app.wsgi_app = self  # type: ignore[method-assign]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the app."""
        # True at the first request, and if another extension has put its own there.
        if self._app.dispatch_request is not self._dispatch:
            self._watch_dispatch()
        if not is_watched(self._app):
            watch(self._app, partial(keep_traceback, self._app))
        # A request made within a delivery, perhaps with its environ, is not the delivery.
        if is_within_delivery(self._app):
            return self._call(None, environ, start_response)
        delivery = environ.get(ENVIRON_KEY)
        if isinstance(delivery, Delivery):
            return self._call(delivery, environ, start_response)
        if NAME_KEY in environ and self._cloud_tasks.is_meant(environ):
            return self._cloud_tasks(environ, start_response)
        signature = environ.get(_SIGNATURE)
        if signature is not None:
            runtime: Runtime = self._app.extensions["taskqueue"]
            incoming = receive(environ, runtime.settings.max_body, time.time())
            return self._answer(
                incoming,
                environ,
                self._telling(incoming, environ, start_response),
            )
        return (
            self._inner(environ, start_response)
            if not is_within_delivery()
            else self._call(None, environ, start_response)
        )

    def _answer(
        self, incoming: IncomingRequest, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Call the app, and answer 500 for an exception that its error handlers let through.

        The exception is logged here, once, and the reply's verdict says that it was reported. The
        traceback of a delivery that failed is stored when the app is done with the request, and
        its transaction has ended, but before anything of the reply is sent: so whoever can know of
        the failure finds it.
        """
        try:
            return self._call(incoming, environ, start_response)
        # A handler may raise any: asyncio.CancelledError, for one, ends a worker of gunicorn.
        except BaseException as error:
            # Others sign their webhooks in this way too, and a server ends a request by a signal.
            if not self._is_signed(incoming, environ) or is_of_signal(error):
                raise
            incoming.reported = True
            self._note_raised(incoming, error)
            _logger.error(
                "task %s: %s", incoming.headers["webhook-id"], type(error).__name__, exc_info=error
            )
            start_response(
                "500 INTERNAL SERVER ERROR", [("Content-Type", "text/plain")], sys.exc_info()
            )
            return [b"The application raised an exception.\n"]
        finally:
            self._store_traceback(incoming.delivery)

    def _store_traceback(self, delivery: Delivery | None) -> None:
        if delivery is not None and delivery.traceback is not None:
            runtime: Runtime = self._app.extensions["taskqueue"]
            runtime.store.tracebacks.keep(delivery.record, delivery.traceback)

    def _call(
        self,
        claim: Delivery | IncomingRequest | None,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """Call the app with this claim as the current one.

        A request that a view makes meanwhile gets a claim of its own, or none. What a thread raises
        that was left behind ends here if its end has been reported: whatever wraps the app, such as
        Sentry's middleware, would report it again.
        """
        end = claim_next(self._app, claim)
        try:
            return self._inner(environ, start_response)
        except BaseException as error:
            if not isinstance(claim, Delivery) or claim.claim_report():
                raise
            return _too_late(claim, error)(environ, start_response)
        finally:
            end()

    def _full_dispatch_request(self, *context: Any) -> Any:
        """Let Flask answer a request, which is the delivery if it is the first one here."""
        begin_request(self._app)
        return self._answer_request(*context)

    def _handle_exception(self, *context: Any) -> Any:
        """Let Flask report and answer an exception, if it is still to be reported.

        Here and where a thread is left behind, whoever comes first reports the end of an attempt.
        """
        claim = claimed_delivery(self._app)
        if isinstance(claim, IncomingRequest):
            self._is_signed(claim, request.environ)
        if claim is not None:
            self._note_raised(claim, context[-1])
        if not isinstance(claim, Delivery) or claim.claim_report():
            return self._report(*context)
        return _too_late(claim, context[-1])

    def _note_raised(self, claim: Delivery | IncomingRequest, error: BaseException) -> None:
        """Note what was raised around the view: by a hook before it, or by what came after it."""
        verdict = claim.verdict
        if verdict is None:
            claim.verdict = replace(verdicts.raised(error), kind="unseen")
        elif verdict.is_success and not verdict.committed:
            claim.verdict = replace(verdict, error=verdicts.raised(error).error)
        else:
            return
        keep_traceback(self._app, claim, error)

    def _is_signed(self, claim: IncomingRequest, environ: WSGIEnvironment) -> bool:
        runtime: Runtime = self._app.extensions["taskqueue"]
        return claim.signed_for(environ, runtime.keys.route) is not None

    def _telling(
        self, claim: IncomingRequest, environ: WSGIEnvironment, start_response: StartResponse
    ) -> StartResponse:
        """Return what adds the verdict to a reply, for nobody but a dispatcher of the app."""
        runtime: Runtime = self._app.extensions["taskqueue"]
        keys, signature = runtime.keys.verdict, environ[_SIGNATURE]

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            told = claim.verdict is not None or claim.reported
            if told and self._is_signed(claim, environ):
                headers = [
                    header for header in headers if header[0].lower() != verdicts.HEADER.lower()
                ]
                verdict = replace(
                    claim.verdict or Verdict("unseen"),
                    reported=claim.reported,
                    by_worker=claim.by_worker,
                )
                headers.append((verdicts.HEADER, verdicts.sign(verdict, keys, signature)))
            return start_response(status, headers, *error)

        return start

    def _watch_dispatch(self) -> None:
        """Wrap the method with which the app calls its views, to note that it has no view."""
        call = self._app.dispatch_request

        def dispatch_request(*context: Any) -> Any:
            if (claim := claimed_delivery(self._app)) is None:
                return call(*context)
            if isinstance(claim, Delivery):
                claim.entered = True
            else:
                self._is_signed(claim, request.environ)  # while the signature is fresh
            if claim.verdict is None and is_automatic(request.url_rule, request.method):
                claim.verdict = Verdict("no-route")
            try:
                return call(*context)
            except Exception as error:
                claim.verdict = claim.verdict or of_routing(error)
                raise

        self._dispatch = self._app.dispatch_request = dispatch_request  # type: ignore[method-assign]


def _too_late(delivery: Delivery, error: BaseException) -> Response:
    """Log what a thread raises after its end was reported; return the reply, which nobody gets."""
    _logger.warning(
        "task %s: %s, after its timeout was reported",
        delivery.record.id,
        type(error).__name__,
        exc_info=error,
    )
    return Response(status=500)
