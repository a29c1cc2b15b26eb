"""One attempt: sends a claimed task and turns the reply into the result to record."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ..core.arguments.functions import FUNCTIONS
from ..core.delivery import verdict as verdicts
from ..core.delivery.delivery import Delivery
from ..core.delivery.outcome import AttemptContext, Outcome, judge, judge_success, permanent
from ..core.delivery.verdict import OutgoingRequest, Reply, Verdict
from ..core.diagnosis.ping import ping_record
from ..core.errors import DeadlineExceeded, DecryptionError, TaskQueueError
from ..core.failures import printable, traceback_excerpt
from ..core.names import chance
from ..core.queues.poison import is_poison, probation
from ..core.retry import RetryOptions
from ..core.security.encryption import Encryption
from ..core.security.targets import Targets
from ..core.settings.added_queue import KnownQueues
from ..core.settings.app import Settings
from ..core.states import Record, State
from ..core.tasks.handover import UnfilledError
from ..core.urls import leads_out
from ..process.interrupts import within_deadline
from ..process.logs import get_logger
from ..process.tracing import is_traced, processing
from ..store import AttemptResult, StoredReply
from .outgoing_requests import Keys, OutgoingRequests, Routes
from .transports import Transport

_logger = get_logger()

_ERROR_LENGTH = 4000
_PING_DEADLINE = 10.0
_MALFORMED = (TaskQueueError, ValueError, TypeError, AttributeError, RecursionError)


class Attempts:
    """The maker of attempts for one application.

    ``begun`` is called with the record of each task that is sent, in the thread that sends it.
    """

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        routes: Routes,
        keys: Keys,
        encryption: Encryption,
        begun: Callable[[Record], object],
        queues: KnownQueues,
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._routes = routes
        self._keys = keys
        self._requests = OutgoingRequests(settings, targets, routes, keys)
        self._encryption = encryption
        self._begun = begun
        self._traced = False

    @property
    def in_process(self) -> bool:
        """Whether the application's own routes are called in this process."""
        return self._routes.own.proves

    def begin(self, records: Sequence[Record], *, alone: bool = False) -> list[Delivery]:
        """Return the deliveries of tasks that have just been claimed.

        Their deadlines begin now. ``alone`` says that a task is tried with nothing beside it.
        """
        started = time.monotonic()
        self._traced = self._settings.trace_propagation and is_traced()
        return [
            Delivery(
                record=record,
                started=started,
                expires=started + self._deadline(record),
                suspect=is_poison(record),
                alone_for=probation(record) if alone else 0.0,
                own=not leads_out(record.url, record.target),
            )
            for record in records
        ]

    def make(self, delivery: Delivery) -> AttemptResult:
        """Deliver a task and judge the reply.

        A row that cannot be delivered becomes dead, and the result says why.
        """
        record = delivery.record
        try:
            retry = self._retry(record)
            transport, request = self._requests.prepare(
                self._encryption.decrypt_record(record), own=delivery.own
            )
        except _MALFORMED as error:
            delivery.over = True
            return AttemptResult(
                record, permanent(printable(_why_unsent(error), _ERROR_LENGTH)), 0.0
            )
        started = time.monotonic()
        reply = within_deadline(delivery, lambda: self._send(transport, request, delivery))
        return self.result(delivery, reply, time.monotonic() - started, retry)

    def result(
        self, delivery: Delivery, reply: Reply, duration: float, retry: RetryOptions | None = None
    ) -> AttemptResult:
        """Return the result to record for a reply that took ``duration`` seconds."""
        record = delivery.record
        outcome = self._judge(delivery, reply, retry or self._retry(record), duration)
        if delivery.abandoned and outcome.state is State.DEAD:
            delivery.silence()
        result = AttemptResult(
            record,
            outcome,
            duration,
            completed=delivery.verdict is not None and delivery.verdict.committed,
            goes_on=delivery.goes_on,
            reported=delivery.reported,
        )
        failed = outcome.state is not State.SUCCEEDED
        if not (failed or record.keep_result):
            return result
        stored = StoredReply.of(reply, self._encryption)
        return result._replace(
            reply_headers=stored.headers,
            reply_body=stored.body,
            traceback=self._encryption.encrypt_text(delivery.traceback) if failed else None,
        )

    def ping(self, method: str, path: str) -> tuple[Reply, Verdict | None]:
        """Return a worker route's reply and verdict on a delivery that its handler never sees."""
        (delivery,) = self.begin([ping_record(method, path)])
        delivery.expires, delivery.ping = delivery.started + _PING_DEADLINE, True
        transport, request = self._requests.prepare(delivery.record, own=True)
        return within_deadline(
            delivery, lambda: self._send(transport, request, delivery)
        ), delivery.verdict

    def broken(self, delivery: Delivery) -> AttemptResult:
        """Return the result to record for a delivery whose thread died.

        It died of something that no handler can raise.
        """
        reply = Reply(
            status=500,
            headers={},
            body=b"",
            error="the attempt's thread died; the log says of what",
        )
        return self.result(delivery, reply, time.monotonic() - delivery.started)

    def close(self) -> None:
        """Close the connections."""
        self._routes.close()

    def reset(self) -> None:
        """Forget connections without closing them, because after a fork they are the parent's."""
        self._routes.reset()

    def _send(self, transport: Transport, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Send the request; log what the app raises and turn it into a 500 reply.

        The exception has passed the app's error handlers, or comes from the ``begun`` callback. It
        is logged here only, once. Every exception is caught, because some libraries, such as gevent
        and asyncio, have exceptions of their own that are not subclasses of `Exception`.
        """
        try:
            if not delivery.ping:
                self._begun(delivery.record)
            if not transport.proves:
                delivery.entered = delivery.away = True
            if not self._traced:
                return self._exchange(transport, request, delivery)
            return processing(
                delivery, request, lambda traced: self._exchange(transport, traced, delivery)
            )
        except DeadlineExceeded as struck:
            self._keep_traceback(delivery, struck)
            # Whatever wraps the app, such as Sentry's middleware, has been told of it.
            delivery.reported |= self.in_process and delivery.own and delivery.entered
            raise
        except BaseException as error:  # noqa: BLE001 - it is logged, in another context
            self._keep_traceback(delivery, error)
            # The app's context, from which Sentry knows what it has been told already.
            context = delivery.context or Context()
            context.run(
                _logger.log,
                logging.ERROR if delivery.claim_report() else logging.WARNING,
                "task %s: %s",
                delivery.record.id,
                type(error).__name__,
                exc_info=error,
            )
            return Reply(status=500, headers={}, body=b"", error=verdicts.raised(error).error)

    def _keep_traceback(self, delivery: Delivery, error: BaseException) -> None:
        """Keep the traceback of the app's failure or deadline, unless it is known already."""
        if delivery.own and self.in_process and delivery.traceback is None:
            delivery.traceback = traceback_excerpt(error, self._settings.traceback_excerpt)

    def _exchange(
        self, transport: Transport, request: OutgoingRequest, delivery: Delivery
    ) -> Reply:
        """Send the request and note the verdict on it.

        If the verdict on a worker's task comes from another view, there is no such worker here.
        """
        try:
            return self._replied(transport, request, delivery)
        finally:
            if delivery.own and _is_for_worker(delivery.record):
                delivery.verdict = verdicts.of_worker(
                    delivery.verdict, by_worker=delivery.by_worker
                )

    def _replied(self, transport: Transport, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Send the request; read the verdict from the reply if the transport did not bring it."""
        reply = transport.send(request, delivery)
        if not delivery.own:
            delivery.verdict = verdicts.of_reply(reply)
            return reply
        if not transport.proves:
            headers = dict(reply.headers)
            told, signature = headers.pop(verdicts.HEADER.lower(), None), "webhook-signature"
            verdict = verdicts.verify(told, self._keys.verdict, request.headers[signature])
            delivery.verdict, delivery.reported = verdict, verdict is not None and verdict.reported
            reply = reply._replace(headers=headers)
        if delivery.verdict is not None and delivery.verdict.kind == "unseen":
            reply = reply._replace(error=delivery.verdict.error or reply.error)
            delivery.verdict = None
        return reply

    def _judge(
        self, delivery: Delivery, reply: Reply, retry: RetryOptions, duration: float
    ) -> Outcome:
        succeeded = judge_success(reply, delivery.verdict)
        if succeeded is not None:
            return succeeded
        record = delivery.record
        first = (
            record.first_tried_at if record.first_tried_at is not None else record.started_at or 0
        )
        age = timedelta(microseconds=(record.started_at or first) - first, seconds=duration)
        trial = AttemptContext(
            number=record.attempts,
            age=age,
            retry=retry,
            now=datetime.now(UTC),
            random=chance.random,
        )
        outcome = judge(reply, delivery.verdict, trial)
        if outcome.error is None:
            return outcome
        return replace(outcome, error=printable(outcome.error, _ERROR_LENGTH))

    def _deadline(self, record: Record) -> float:
        return self._settings.deadline_of(self._queues.get(record.queue), record.deadline)

    def _retry(self, record: Record) -> RetryOptions:
        if record.retry is not None:
            return _stored_retry(record.retry)
        queue = self._queues.get(record.queue)
        return (
            queue.retry if queue is not None and queue.retry is not None else self._settings.retry
        )


_stored_retry = lru_cache(maxsize=1024)(RetryOptions.from_json)


def _is_for_worker(record: Record) -> bool:
    """Return whether only a worker can do the task.

    That is so if its URL was a worker's when it was added, or if it belongs to a task function.
    """
    return bool(record.for_worker) or record.url.startswith(FUNCTIONS)


def _why_unsent(error: Exception) -> str:
    """Return why a stored task cannot be sent."""
    if isinstance(error, UnfilledError):
        return str(error)
    what = "cannot be read" if isinstance(error, DecryptionError) else "is malformed"
    return f"the stored task {what}: {error}"
