"""The proof that a task's view ran: seen where the app calls it, told where the app cannot change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.routing import RequestRedirect

from ..core import verdict as verdicts
from ..core.delivery import ENVIRON_KEY, Delivery
from ..core.verdict import Verdict, Witness
from ..runtime import Runtime

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_WITNESS = "flask_taskqueue.witness"
_SIGNATURE = "HTTP_WEBHOOK_SIGNATURE"


def witness(app: Flask, environ: WSGIEnvironment) -> Delivery | Witness | None:
    """Where to put the verdict on the view of a request; None if the request is no delivery."""
    delivery = environ.get(ENVIRON_KEY)
    return delivery if isinstance(delivery, Delivery) else environ.get(_key(app))


def _key(app: Flask) -> str:
    """Of each app its own: one may be mounted within another."""
    return f"{_WITNESS}.{id(app)}"


def returned(response: Response) -> Verdict:
    """The verdict on a view that returned this. Its body is run to its end before, so that a failure in it is the view's."""
    if not response.is_sequence and not response.direct_passthrough:
        response.make_sequence()
    return Verdict("returned", response.status_code, retry_after=response.headers.get("Retry-After"))


def install(app: Flask) -> None:
    """Put the proof around an app, once."""
    if _WITNESS not in app.extensions:
        app.extensions[_WITNESS] = Proof(app)


class Proof:
    """Around an app: over HTTP it puts the verdict on replies, signed; and it sees which views run.

    It is the app's ``wsgi_app``, inside of whatever is put around that later. Requests that carry no
    signature of Standard Webhooks pass as they are.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._inner: WSGIApplication = app.wsgi_app
        self._dispatch: Callable[..., Any] | None = None
        app.wsgi_app = self  # type: ignore[method-assign]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the app."""
        if self._app.dispatch_request is not self._dispatch:  # with the first request, or another extension has put its own there
            self._watch_dispatch()
        signature = environ.get(_SIGNATURE)
        if signature is None or ENVIRON_KEY in environ:
            return self._inner(environ, start_response)
        seen = environ[_key(self._app)] = Witness()
        runtime: Runtime = self._app.extensions["taskqueue"]

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            if seen.verdict is not None:
                headers = [one for one in headers if one[0].lower() != verdicts.HEADER.lower()]
                headers.append((verdicts.HEADER, verdicts.seal(seen.verdict, runtime.keys.verdict, signature)))
            return start_response(status, headers, *error)

        return self._inner(environ, start)

    def _watch_dispatch(self) -> None:
        """Have what the app calls its views by say what became of them, where a view has not said it itself."""
        call = self._app.dispatch_request

        def dispatch_request(*context: Any) -> Any:
            seen = witness(self._app, request.environ)
            if seen is None:
                return call(*context)
            try:
                answer = self._app.make_response(call(*context))
                if seen.verdict is None:
                    seen.verdict = returned(answer)
                return answer
            except Exception as error:
                if seen.verdict is None:
                    seen.verdict = _of_error(error)
                raise

        self._dispatch = self._app.dispatch_request = dispatch_request  # type: ignore[method-assign]


def _of_error(error: Exception) -> Verdict | None:
    """The verdict on what calling a view raised; None for a redirect to the canonical URL, which says itself what it is."""
    if error is not request.routing_exception:
        return verdicts.raised(error)
    return None if isinstance(error, RequestRedirect) else Verdict("no-route")
