"""Deliveries of Cloud Tasks: proven, leased, attempted and recorded, each in its request."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask import Flask

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError
from ..core.names import dispatcher_id, lease_id
from ..core.settings.queue import CLOUDTASKS
from ..core.states import Record, State
from ..core.tasks.forwarded import id_of
from ..core.times import lease_clock
from ..engine.attempt import Attempts
from ..process.logs import get_logger
from ..process.threads import NoThreadError
from ..runtime import Runtime
from ..store import AttemptResult, Recorded
from .lease_keeper import LeaseKeeper
from .oidc import Certificates, TokenRefusedError, TokenVerifier

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_logger = get_logger()

_QUEUE = "HTTP_X_CLOUDTASKS_QUEUENAME"
NAME_KEY = "HTTP_X_CLOUDTASKS_TASKNAME"
_PAUSED = 60.0
_SOON = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a delivery; Cloud Tasks delivers again after anything but a 200."""

    status: str
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


def _done(text: str) -> Answer:
    return Answer("200 OK", text)


def _later(text: str, seconds: float) -> Answer:
    after = str(max(1, math.ceil(seconds)))
    return Answer("503 SERVICE UNAVAILABLE", text, {"Retry-After": after})


class Deliveries:
    """The receiver of what Cloud Tasks delivers to one application.

    A delivery says which task is meant, and its token that Cloud Tasks means it. What runs is the
    request in the task's row. So a token that was overheard, within its hour, starts nothing but
    attempts of tasks that Cloud Tasks was to start anyway.
    """

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._held_by = dispatcher_id()
        self._keeper = LeaseKeeper(runtime.store, settings.lease)
        self._verifier = TokenVerifier(
            Certificates(settings.cloudtasks_certs_url),
            audience=settings.base_url or "",
            email=settings.cloudtasks_service_account or "",
        )
        self._attempts = Attempts(
            settings,
            runtime.targets,
            runtime.routes(None, "wsgi"),
            runtime.keys,
            runtime.encryption,
            runtime.begun,
            runtime.store.known_queues,
        )

    def answer(self, environ: WSGIEnvironment, task_id: str) -> Answer:
        """Attempt the task that a delivery is for, if its token is valid and it can be leased.

        A task that has ended, or does not exist any more, is answered with success and not run.
        """
        try:
            self._verifier.verify(environ.get("HTTP_AUTHORIZATION"))
        except TokenRefusedError as error:
            _logger.warning("a delivery of Cloud Tasks was refused: %s", error)
            return Answer("403 FORBIDDEN", "The token of this delivery is refused.")
        try:
            return self._deliver(task_id)
        except (TaskQueueError, NoThreadError, sa.exc.DBAPIError) as error:
            _logger.warning("task %s could not be attempted or recorded: %s", task_id, error)
            return _later("The task queue cannot work now.", _SOON)

    def _deliver(self, task_id: str) -> Answer:
        store = self._runtime.store
        store.ensure_queues()
        for _ in range(3):
            since = lease_clock()
            lease = partial(
                store.delivered.lease,
                task_id=task_id,
                lease_id=lease_id(),
                held_by=self._held_by,
                lease=self._runtime.settings.lease,
            )
            record = store.transact(lease)
            if record is not None:
                return self._attempt(record, since)
            answer = self._why_not(task_id)
            if answer is not None:
                return answer
        return _later("The task is changing.", _SOON)

    def _why_not(self, task_id: str) -> Answer | None:
        """Return the answer for a task that could not be leased; None if it may be possible now."""
        store = self._runtime.store
        leases = store.delivered
        record, left = store.read(lambda reader: leases.look(reader, task_id))
        if record is None:
            return _done("There is no such task any more.")
        if State(record.state).is_finished:
            return _done(f"The task has ended: it is {record.state}.")
        if record.state == State.SCHEDULED:
            return _later("The task is going to be handed over again.", _SOON)
        if left is not None and left > 0:
            return _later("The task is being attempted.", left)
        if left is not None:
            settle = partial(leases.settle, record=record, source=self._held_by)
            self._runtime.tell_dead(*store.transact(settle))
            return None
        if record.state == State.FORWARDED:
            if store.transact(partial(leases.expire, record=record)):
                return _done("The task has expired.")
            return _later("The queue is paused.", _PAUSED)
        return None

    def _attempt(self, record: Record, since: float) -> Answer:
        """Attempt a task that this delivery has leased, and record how it ended."""
        (delivery,) = self._attempts.begin([record])
        store = self._runtime.store
        try:
            with self._keeper.keeping(delivery, since):
                result = self._attempts.make(delivery)
                recorded = store.transact(partial(self._record, result=result))
        except NoThreadError:
            store.transact(partial(store.delivered.give_back, record=record))
            raise
        for ended in recorded.results:
            self._runtime.observe(ended, ended.record.id in recorded.lost)
            if ended.record.id in recorded.lost:
                return _later("The lease of the task was lost.", _SOON)
            result = ended
        return _answer(result, delivery)

    def _record(self, connection: sa.Connection, result: AttemptResult) -> Recorded:
        """Record an attempt; a task that is to be tried again is forwarded as before."""
        store = self._runtime.store
        recorded = store.recording.record(connection, [result])
        for ended in recorded.results:
            if ended.outcome.state is State.SCHEDULED and ended.record.id not in recorded.lost:
                store.delivered.await_delivery(connection, ended.record)
        return recorded


class CloudTasksEndpoint:
    """The place of an app, before all of its own, where Cloud Tasks delivers."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._deliveries: Deliveries | None = None
        self._building = threading.Lock()

    def is_meant(self, environ: WSGIEnvironment) -> bool:
        """Return whether a request claims to deliver a task of a queue with this engine.

        Its headers prove nothing; they say who has to prove it.
        """
        queue = self._runtime.settings.queues.get(environ.get(_QUEUE, ""))
        is_ours = queue is not None and queue.engine == CLOUDTASKS
        return is_ours and id_of(environ.get(NAME_KEY, "")) is not None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer such a request."""
        with self._building:
            if self._deliveries is None:
                self._deliveries = Deliveries(self._runtime)
        answer = self._deliveries.answer(environ, id_of(environ[NAME_KEY]) or "")
        text = f"{answer.text}\n".encode()
        headers = {"Content-Type": "text/plain", "Content-Length": str(len(text))}
        start_response(answer.status, [*headers.items(), *answer.headers.items()])
        return [text]

    @property
    def _runtime(self) -> Runtime:
        runtime: Runtime = self._app.extensions["taskqueue"]
        return runtime


def _answer(result: AttemptResult, delivery: Delivery) -> Answer:
    outcome = result.outcome
    if outcome.state is not State.SCHEDULED:
        return _done(f"The task is {outcome.state}.")
    verdict: Any = delivery.verdict
    asked = verdict is not None and verdict.kind == "retry"
    if (asked or outcome.retry_after is not None) and outcome.delay is not None:
        return _later("The task asks to be tried again later.", outcome.delay)
    return Answer("500 INTERNAL SERVER ERROR", "The attempt has failed.")
