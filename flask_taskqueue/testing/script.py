"""Scripts: the replies and the faults that a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from flask import Flask

from ..core.delivery.delivery import Delivery
from ..core.delivery.verdict import OutgoingRequest, Reply, of_reply
from ..core.states import Record
from ..engine.transports import Transport
from ..web.worker import worker_behind
from .expected_url import ExpectedUrl, endpoint_of

Send = Callable[[], Reply]


@dataclass(slots=True, eq=False)
class Scene:
    """A change to the next deliveries, to any URL or only to ``url``.

    ``times`` counts the deliveries that are left; None means all of them.
    """

    url: ExpectedUrl | None
    times: int | None
    reply: Callable[[], Reply] | None = None
    """A function that replaces the handler's reply."""
    raises: BaseException | type[BaseException] | None = None
    """What the handler raises instead of doing its work."""
    duplicate: bool = False
    """Whether the request arrives twice; the first reply counts."""
    crash: bool = False
    """Whether the dispatcher's process dies after the handler, before the result is recorded."""

    def begins(self, record: Record) -> bool:
        """Return whether it applies to a delivery of this task, and count that delivery."""
        if self.times == 0 or (self.url is not None and not self.url.fits(record)):
            return False
        self.times = None if self.times is None else self.times - 1
        return True


@dataclass(slots=True)
class Script:
    """The scenes of a test, and the result of the last delivery."""

    app: Flask
    scenes: list[Scene] = field(default_factory=list)
    reply: Reply | None = None
    exception: BaseException | None = None
    crashed: bool = False

    def begin(self) -> None:
        """Forget the last delivery, because the next one begins."""
        self.reply = self.exception = None
        self.crashed = False

    def play(self, delivery: Delivery, send: Send) -> Reply:
        """Deliver, or play a scene, and return the reply."""
        playing = [scene for scene in reversed(self.scenes) if scene.begins(delivery.record)]
        try:
            self.reply = self._reply(playing, delivery, send)
        except BaseException as error:
            self.exception = error
            raise
        self.crashed = any(scene.crash for scene in playing)
        return self.reply

    def _reply(self, playing: list[Scene], delivery: Delivery, send: Send) -> Reply:
        for scene in playing:
            if scene.reply is not None:
                reply = scene.reply()
                delivery.verdict, delivery.by_worker = (
                    of_reply(reply),
                    True,
                )  # as if a handler had said so
                return reply
            if scene.raises is not None:
                with _raised_by_handler(self.app, delivery.record, scene.raises):
                    return send()
        reply = send()
        if any(scene.duplicate for scene in playing):
            verdict = delivery.verdict
            send()
            delivery.verdict = verdict
        return reply


class Scripted:
    """A transport that plays a script."""

    def __init__(self, inner: Transport, script: Script) -> None:
        self.proves: bool = inner.proves
        self._inner = inner
        self._script = script

    def send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Send the request, or play a scene instead."""
        return self._script.play(delivery, lambda: self._inner.send(request, delivery))

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    def reset(self) -> None:
        """Reset the inner transport."""
        self._inner.reset()


@contextmanager
def _raised_by_handler(
    app: Flask, record: Record, error: BaseException | type[BaseException]
) -> Iterator[None]:
    """Let the handler of a task raise an error; where there is none, it is raised here."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise error

    endpoint = endpoint_of(app, record)
    if endpoint is None:
        fail()
    view = app.view_functions[endpoint]
    worker = worker_behind(view)
    if worker is None:
        app.view_functions[endpoint] = fail
    else:
        handler, worker.function = worker.function, fail
    try:
        yield
    finally:
        if worker is None:  # in another dict perhaps, since the app was called first
            app.view_functions[endpoint] = view
        else:
            worker.function = handler


class NoNetwork:
    """The transport to other hosts, which tests do not reach."""

    proves = False

    def send(self, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Say what to do instead."""
        return Reply(
            status=None,
            headers={},
            body=b"",
            kind="connection",
            error="tests send nothing to other hosts: say what this one answers with "
            "taskqueue.respond(200), or send it with tasks.drain()",
        )

    def close(self) -> None:
        """Do nothing."""

    def reset(self) -> None:
        """Do nothing."""
