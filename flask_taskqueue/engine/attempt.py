"""One attempt: from a row to a reply to what is to be recorded."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ..core import failures as tracebacks
from ..core.delivery import signatures
from ..core.delivery import verdict as verdicts
from ..core.delivery.delivery import Delivery
from ..core.delivery.headers import check_words, delivery_headers, proof_headers
from ..core.delivery.outcome import Outcome, Trial, judge, judge_success, permanent
from ..core.delivery.reply import OutgoingRequest, Reply, kept_headers
from ..core.delivery.verdict import Verdict
from ..core.diagnosis.ping import ping_record
from ..core.errors import (
    DeadlineExceeded,
    DecryptionError,
    InvalidTaskError,
    InvalidTaskRetryOptionsError,
)
from ..core.ids import chance
from ..core.queues.poison import is_poison, probation
from ..core.record import Record
from ..core.retry import RetryOptions
from ..core.security.encryption import Vault
from ..core.security.targets import Targets
from ..core.settings.app import Settings
from ..core.states import State
from ..core.tasks.new_task import unpack
from ..core.tasks.request import check_headers
from ..core.urls import as_host, as_sent, check_path, is_absolute, receiver_of
from ..process.interrupts import within_deadline
from ..store import Result
from .tracing import is_traced, processing
from .transports import Transport

logger = logging.getLogger("flask_taskqueue")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ERROR_LENGTH = 4000
_PING_DEADLINE = 10.0
_MALFORMED = (
    InvalidTaskError,
    InvalidTaskRetryOptionsError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Routes:
    """Where deliveries go: the application's own paths, and other hosts."""

    own: Transport
    """For paths of the application."""
    own_url: str
    """What its paths are appended to."""
    remote: Transport
    """For absolute URLs and targets."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What deliveries are signed with, newest first."""

    route: list[bytes] = field(repr=False)
    verdict: list[bytes] = field(repr=False)
    webhook: list[bytes] = field(repr=False)
    fingerprints: tuple[str, ...]
    """By which the tables know whose they are."""

    @classmethod
    def of(cls, secrets: Sequence[str | bytes]) -> Keys:
        """Those that are derived from secrets."""
        route, verdict, webhook = (
            signatures.route_keys(secrets),
            signatures.verdict_keys(secrets),
            signatures.webhook_keys(secrets),
        )
        return cls(route, verdict, webhook, signatures.fingerprints(secrets))


class Attempts:
    """Makes attempts for one application; ``begun`` is called with the record of each that is
    sent, in the thread that sends it.
    """

    def __init__(
        self,
        settings: Settings,
        targets: Targets,
        routes: Routes,
        keys: Keys,
        vault: Vault,
        begun: Callable[[Record], object],
    ) -> None:
        self._settings = settings
        self._targets = targets
        self._routes = routes
        self._keys = keys
        self._vault = vault
        self._begun = begun

    @property
    def in_process(self) -> bool:
        """Whether the application's own routes are called in this process."""
        return self._routes.own.proves

    def begin(self, record: Record, *, alone: bool = False) -> Delivery:
        """The delivery of a task that has just been claimed, to be tried ``alone`` perhaps; its
        deadline begins now.
        """
        started = time.monotonic()
        return Delivery(
            record=record,
            started=started,
            expires=started + self._settings.deadline_of(record.queue, record.deadline),
            suspect=is_poison(record),
            alone_for=probation(record) if alone else 0.0,
            own=_is_own(record),
        )

    def make(self, delivery: Delivery) -> Result:
        """Deliver, and judge the reply. A row that cannot be delivered is dead, with the reason."""
        record = delivery.record
        try:
            retry = self._retry(record)
            transport, request = self._prepare(self._vault.opened(record), own=delivery.own)
        except DecryptionError as error:
            return Result(record, permanent(f"the stored task cannot be read: {error}"), 0.0)
        except _MALFORMED as error:
            return Result(record, permanent(_clean(f"the stored task is malformed: {error}")), 0.0)
        started = time.monotonic()
        reply = within_deadline(delivery, lambda: self._send(transport, request, delivery))
        return self.result(delivery, reply, time.monotonic() - started, retry)

    def result(
        self, delivery: Delivery, reply: Reply, duration: float, retry: RetryOptions | None = None
    ) -> Result:
        """What is to be recorded of a reply that took so many seconds."""
        record = delivery.record
        outcome = self._judge(delivery, reply, retry or self._retry(record), duration)
        kept = outcome.state is not State.SUCCEEDED or bool(record.keep_result)
        return Result(
            record=record,
            outcome=outcome,
            duration=duration,
            reply_headers=self._vault.seal_text(kept_headers(reply)) if kept else None,
            reply_body=self._vault.seal(reply.body) if kept and reply.body else None,
            traceback=self._vault.seal_text(delivery.traceback)
            if outcome.state is not State.SUCCEEDED
            else None,
            completed=delivery.verdict is not None and delivery.verdict.committed,
            goes_on=delivery.goes_on,
            reported=delivery.reported
            or (delivery.verdict is not None and delivery.verdict.reported),
        )

    def ping(self, method: str, path: str) -> tuple[Reply, Verdict | None]:
        """What a worker route of the application answers to a delivery that its handler never
        sees, and what it says of it.
        """
        record = ping_record(method, path)
        started = time.monotonic()
        delivery = Delivery(
            record=record, started=started, expires=started + _PING_DEADLINE, ping=True
        )
        transport, request = self._prepare(record, own=True)
        return within_deadline(
            delivery, lambda: self._send(transport, request, delivery)
        ), delivery.verdict

    def broken(self, delivery: Delivery) -> Result:
        """What is to be recorded of a delivery whose thread died of something that no handler
        can raise.
        """
        reply = Reply(
            status=500,
            headers={},
            body=b"",
            error="the attempt's thread died; the log says of what",
        )
        return self.result(delivery, reply, time.monotonic() - delivery.started)

    def close(self) -> None:
        """Let go of connections."""
        self._routes.own.close()
        self._routes.remote.close()

    def reset(self) -> None:
        """Forget connections without closing them: after a fork they are the parent's."""
        self._routes.own.reset()
        self._routes.remote.reset()

    def _send(self, transport: Transport, request: OutgoingRequest, delivery: Delivery) -> Reply:
        """Send; what the application raises, past its error handlers or when it is told, is logged
        here, once, and is a reply of 500.

        Whatever it raises: there are libraries whose own exceptions are no `Exception`, as gevent's
        and asyncio's.
        """
        try:
            if not delivery.ping:
                self._begun(delivery.record)
            if not transport.proves:
                delivery.entered = delivery.away = True
            if not (self._settings.trace_propagation and is_traced()):
                return self._exchange(transport, request, delivery)
            return processing(
                delivery, request, lambda traced: self._exchange(transport, traced, delivery)
            )
        except DeadlineExceeded as struck:
            self._keep_traceback(delivery, struck)
            raise
        except BaseException as error:  # noqa: BLE001 - it is logged, in another context
            self._keep_traceback(delivery, error)
            delivery.reported = True
            context = (
                delivery.context or Context()
            )  # the application's, by which Sentry knows what it has been told already
            context.run(
                logger.error,
                "task %s: %s",
                delivery.record.id,
                type(error).__name__,
                exc_info=error,
            )
            return Reply(status=500, headers={}, body=b"", error=f"{type(error).__name__}: {error}")

    def _keep_traceback(self, delivery: Delivery, error: BaseException) -> None:
        """Keep where the application failed, or was at its deadline, unless that is known
        already.
        """
        if delivery.own and self.in_process and delivery.traceback is None:
            delivery.traceback = tracebacks.told(error, self._settings.traceback_excerpt)

    def _exchange(
        self, transport: Transport, request: OutgoingRequest, delivery: Delivery
    ) -> Reply:
        """Send, and see what is said of it where the transport did not bring that itself."""
        reply = transport.send(request, delivery)
        if not delivery.own:
            delivery.verdict = verdicts.of_reply(reply)
        elif not transport.proves:
            headers = dict(reply.headers)
            header = headers.pop(verdicts.HEADER.lower(), None)
            delivery.verdict = verdicts.unseal(
                header, self._keys.verdict, request.headers["webhook-signature"]
            )
            return replace(reply, headers=headers)
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
        trial = Trial(
            number=record.attempts,
            age=age,
            retry=retry,
            now=datetime.now(UTC),
            random=chance.random,
        )
        outcome = judge(reply, delivery.verdict, trial)
        if outcome.error is None:
            return outcome
        return replace(outcome, error=_clean(outcome.error))

    def _prepare(self, record: Record, *, own: bool) -> tuple[Transport, OutgoingRequest]:
        if record.method not in _METHODS or not isinstance(record.body, bytes):
            raise InvalidTaskError(
                f"the method is {record.method!r}, the body {type(record.body).__name__}"
            )
        check_words(record)
        unpack(record.follow_up)
        headers = {
            **_stored_headers(record.headers),
            **delivery_headers(record, self._settings.headers),
        }
        if own:
            headers |= proof_headers(record)
            headers |= _identified(record) if self.in_process else self._signed(record)
            return self._routes.own, OutgoingRequest(
                record.method,
                self._routes.own_url + _checked_path(record.url),
                headers,
                record.body,
            )
        url = self._targets.check(
            record.url if record.target is None else record.target + _checked_path(record.url)
        )
        headers |= self._signed(record, receiver_of(url))
        return self._routes.remote, OutgoingRequest(record.method, url, headers, record.body)

    def _signed(self, record: Record, receiver: str | None = None) -> Mapping[str, str]:
        """The headers of Standard Webhooks, for a ``receiver`` or for the application's own routes.

        A path that goes to a target may be a route of the application there, so it has the
        signatures of both.
        """
        now = int(time.time())
        keys = [] if receiver is None else signatures.receiver_keys(self._keys.webhook, receiver)
        if not is_absolute(record.url):
            path = as_sent(_checked_path(record.url))
            host = "" if receiver is None else as_host(receiver)
            keys += signatures.bound(
                self._keys.route, record.method, path, record.queue, record.attempts, host
            )
        return {
            **_identified(record, now),
            "webhook-signature": signatures.sign(keys, record.id, now, record.body),
        }

    def _retry(self, record: Record) -> RetryOptions:
        if record.retry is not None:
            return RetryOptions.from_json(record.retry)
        queue = self._settings.queues.get(record.queue)
        return (
            queue.retry if queue is not None and queue.retry is not None else self._settings.retry
        )


def _is_own(record: Record) -> bool:
    """Whether a task goes to the application's own paths."""
    return record.target is None and not is_absolute(record.url)


def _identified(record: Record, now: int | None = None) -> dict[str, str]:
    """The headers of Standard Webhooks without the signature: enough where the transport itself
    proves the origin.
    """
    return {
        "webhook-id": record.id,
        "webhook-timestamp": str(int(time.time()) if now is None else now),
    }


@lru_cache(maxsize=1024)
def _stored_headers(text: str | None) -> Mapping[str, str]:
    """The headers of a row, checked: it may have been written by hand. Most rows have the same
    few.
    """
    return check_headers(json.loads(text)) if text else {}


_checked_path = lru_cache(maxsize=1024)(check_path)


def _clean(text: str) -> str:
    """An error text that can be stored and shown: no control characters, not endless."""
    return "".join(
        character if character.isprintable() else " " for character in text[:_ERROR_LENGTH]
    )
