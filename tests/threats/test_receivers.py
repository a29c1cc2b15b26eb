"""What one receiver of tasks can do to another."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Response
from standardwebhooks import Webhook, WebhookVerificationError

from flask_taskqueue import State, Task, diagnosis
from flask_taskqueue.core.errors import InvalidUrlError
from flask_taskqueue.core.queues import circuits
from flask_taskqueue.core.times import SECOND
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase
from tests.receivers import Receiver, receiver
from tests.waiting import wait_until


@pytest.fixture
def sender(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application whose tasks may go to receivers on this machine."""
    with bench(sqlite_database.url, TASKQUEUE_ALLOWED_HOSTS=["127.0.0.1", "localhost"]) as one:
        yield one


@pytest.fixture
def ana() -> Iterator[Receiver]:
    """A receiver."""
    with receiver() as one:
        yield one


@pytest.fixture
def bo() -> Iterator[Receiver]:
    """Another."""
    with receiver() as one:
        yield one


class TestAReceiverForgesForAnother:
    """Each host and port has a secret of its own."""

    def test_what_one_is_sent_no_other_accepts(
        self, sender: Bench, ana: Receiver, bo: Receiver
    ) -> None:
        """A delivery to Ana is good at Ana's and nowhere else, and what she signs with her
        secret is good nowhere else.
        """
        sender.run(sender.tasks.add(f"{ana.url}/hook", json={"pay": "ana"}))
        headers, body = ana.latest
        assert Webhook(sender.tasks.webhook_secret(f"{ana.url}/hook")).verify(body, headers) == {
            "pay": "ana"
        }
        others = Webhook(sender.tasks.webhook_secret(bo.host))
        with pytest.raises(WebhookVerificationError):
            others.verify(body, headers)
        now = datetime.now(UTC)
        made_up = Webhook(sender.tasks.webhook_secret(ana.host)).sign("x", now, "{}")
        with pytest.raises(WebhookVerificationError):
            others.verify(
                "{}",
                {
                    "webhook-id": "x",
                    "webhook-timestamp": str(int(now.timestamp())),
                    "webhook-signature": made_up,
                },
            )

    def test_who_knows_a_secret_cannot_call_a_route(self, sender: Bench, ana: Receiver) -> None:
        """A delivery to another host, sent on to the application, is nobody's."""

        @sender.tasks.worker("/hook")
        def hook() -> None:
            pytest.fail("a stranger was let in")

        sender.run(sender.tasks.add(f"{ana.url}/hook", json={}))
        headers, body = ana.latest
        assert sender.app.test_client().post("/hook", headers=headers, data=body).status_code == 403

    def test_a_target_cannot_call_the_application_with_what_it_is_sent(
        self, sender: Bench, ana: Receiver
    ) -> None:
        """Not even while the attempt is under way; the application at the target itself takes
        it.
        """
        ran: list[int] = []

        @sender.tasks.worker("/hook")
        def hook() -> None:
            ran.append(1)

        replies: list[int] = []

        def send_on() -> Response:
            headers, body = ana.latest
            client = sender.app.test_client()
            replies.append(
                client.post(
                    "/hook", headers={**headers, "Host": "app.example"}, data=body
                ).status_code
            )
            replies.append(client.post("/hook", headers=headers, data=body).status_code)
            return Response(status=204)

        ana.answer = send_on
        assert sender.run(sender.tasks.add("/hook", target=ana.url)).state == "succeeded"
        assert replies == [403, 204]
        assert ran == [1]
        headers, body = ana.latest
        Webhook(sender.tasks.webhook_secret(ana.url)).verify(body, headers, json_parse=False)

    @pytest.mark.slow
    def test_the_application_takes_tasks_at_another_address(self, sender: Bench) -> None:
        """A target that is a deployment of the application itself runs them, whatever port it
        has.
        """
        ran: list[int] = []

        @sender.tasks.worker("/hook")
        def hook() -> None:
            ran.append(1)

        with served(sender.app) as url:
            assert (
                sender.run(
                    sender.tasks.add("/hook", target=url.replace("127.0.0.1", "LocalHost"))
                ).state
                == "succeeded"
            )
        assert ran == [1]

    def test_secrets_change_with_the_key_of_the_application(
        self, sender: Bench, ana: Receiver
    ) -> None:
        """While the old key is a fallback, receivers with the old secret and with the new one
        accept.
        """
        runtime = sender.runtime
        secrets = [sender.tasks.webhook_secret(ana.url)]
        sender.app.config.update(
            SECRET_KEY="a new one", SECRET_KEY_FALLBACKS=["a secret for tests"]
        )
        runtime.__dict__.pop("keys", None)
        secrets.append(sender.tasks.webhook_secret(ana.url))
        assert secrets[0] != secrets[1]
        sender.run(sender.tasks.add(f"{ana.url}/hook", json={}))
        headers, body = ana.latest
        for secret in secrets:
            assert Webhook(secret).verify(body, headers) == {}

    @pytest.mark.parametrize(
        "same",
        [
            "https://Example.com/hook?x=1",
            "HTTPS://example.com:443",
            "example.com:443",
            "EXAMPLE.com:443",
        ],
    )
    def test_a_receiver_is_its_host_and_port(self, sender: Bench, same: str) -> None:
        """Whatever is called there, and however it is written."""
        assert sender.tasks.webhook_secret(same) == sender.tasks.webhook_secret(
            "https://example.com"
        )
        assert sender.tasks.webhook_secret(same) != sender.tasks.webhook_secret(
            "http://example.com"
        )

    @pytest.mark.parametrize(
        "unclear",
        [
            "",
            "example.com",
            "/hook",
            "ftp://example.com",
            "example.com:443/hook",
            "a b:1",
            "https://",
        ],
    )
    def test_a_receiver_that_is_not_clear_is_refused(self, sender: Bench, unclear: str) -> None:
        """By the command too, with a sentence and no secret."""
        with pytest.raises(InvalidUrlError):
            sender.tasks.webhook_secret(unclear)
        told = sender.app.test_cli_runner().invoke(args=["taskqueue", "webhook-secret", unclear])
        assert told.exit_code == 1
        assert "whsec_" not in told.output

    def test_the_command_asks_for_the_receiver(self, sender: Bench) -> None:
        """There is no secret for all."""
        told = sender.app.test_cli_runner().invoke(args=["taskqueue", "webhook-secret"])
        assert told.exit_code == 2
        assert "each receiver has its own secret" in told.output

    def test_the_command_tells_it(self, sender: Bench) -> None:
        """The same as the method does, also as JSON."""
        run = sender.app.test_cli_runner().invoke
        secret = sender.tasks.webhook_secret("https://example.com/hook")
        assert (
            run(args=["taskqueue", "webhook-secret", "https://example.com/hook"]).output.strip()
            == secret
        )
        assert json.loads(
            run(args=["taskqueue", "webhook-secret", "example.com:443", "--json"]).output
        ) == {"secret": secret}


class TestAReceiverHoldsUpAnother:
    """Who answers 429 or 503 with Retry-After is slowed, and nobody else."""

    @pytest.fixture
    def busy(self) -> Iterator[Receiver]:
        """A receiver that asks to be left alone."""
        with receiver(503, retry_after="50") as one:
            yield one

    @pytest.fixture
    def sender(self, database: TestDatabase) -> Iterator[Bench]:
        """An application on each database."""
        with bench(
            database.url,
            TASKQUEUE_ALLOWED_HOSTS=["127.0.0.1"],
            TASKQUEUE_DISPATCHER="off",
            TASKQUEUE_DASHBOARD=True,
            TASKQUEUE_DASHBOARD_ACCESS=lambda: "read",
        ) as one:
            yield one
            one.runtime.stop(5)

    @pytest.mark.slow
    def test_others_are_called_as_if_it_were_not_there(
        self, sender: Bench, ana: Receiver, busy: Receiver
    ) -> None:
        """What waits for it costs no attempt, and is not in the way; why, doctor and the
        dashboard say who is slowed, and what it said.
        """
        ran = threading.Event()

        @sender.tasks.worker("/work")
        def work() -> None:
            ran.set()

        sender.tasks.add_many(
            (busy.url if number % 2 else ana.url) + "/hook" for number in range(600)
        )
        sender.runtime.start()
        wait_until(lambda: len(ana.got) == 300, what="the good receiver has got its tasks")
        assert len(busy.got) < 150, "those under way before its first answer was recorded"
        work.add()
        wait_until(ran.is_set, what="a route of the app is called")

        def waiting() -> list[Task]:
            return [task for task in sender.tasks.find(limit=1000) if task.url.startswith(busy.url)]

        wait_until(
            lambda: sum(waiter.attempts for waiter in waiting()) == len(busy.got),
            what="whatever counted as an attempt was one",
        )
        late = next(
            waiter for waiter in waiting() if waiter.attempts == 0 and waiter.state == "scheduled"
        )
        assert late.last_error is None
        why = sender.tasks.why(late)
        assert why.code == "slowed"
        assert f"{busy.host}, asked for less (503, Retry-After 50 s)" in why.sentence
        findings = [
            finding for finding in diagnosis.findings(sender.runtime) if busy.host in finding.text
        ]
        assert [
            "is slowed since" in finding.text and "twice as much every half minute" in finding.text
            for finding in findings
        ] == [True]
        page = sender.app.test_client().get(
            "/taskqueue/", environ_base={"REMOTE_ADDR": "127.0.0.1"}
        )
        assert busy.host in page.text
        assert "503, Retry-After 50 s" in page.text

    @pytest.mark.slow
    def test_a_receiver_is_called_again_when_it_answers(
        self, sender: Bench, busy: Receiver
    ) -> None:
        """All its tasks arrive once it answers."""
        busy.answer = lambda: Response(status=503, headers={"Retry-After": "1"})
        sender.tasks.add_many((f"{busy.url}/hook", {"n": number}) for number in range(100))
        sender.runtime.start()
        wait_until(lambda: busy.got, what="it is called")
        busy.answer = lambda: Response(status=204)
        wait_until(
            lambda: sender.tasks.queue("default").statistics().succeeded == 100,
            what="all have succeeded",
        )

    @pytest.mark.slow
    def test_a_host_that_does_not_answer_takes_not_every_slot(
        self, sender: Bench, ana: Receiver
    ) -> None:
        """Once a deadline has passed it has half of the slots of a process, until it answers;
        the others go on, and lose no attempt.
        """
        with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/hook"
            specs = [
                {"url": f"{ana.url}/hook"} if number % 3 else {"url": url, "deadline": 3}
                for number in range(450)
            ]
            sender.tasks.add_many(specs)
            sender.runtime.start()
            wait_until(lambda: len(ana.got) == 300, what="the good receiver has got its tasks")
            tried = [task.attempts for task in sender.tasks.find(limit=1000) if task.url == url]
            assert len(tried) == 150
            assert sum(tried) < 100
            sender.runtime.stop(0)

    @pytest.mark.slow
    def test_many_hosts_that_do_not_answer_take_not_every_slot(
        self, sender: Bench, ana: Receiver
    ) -> None:
        """Each is new to the process; after one deadline they share half of the slots, until they
        answer.
        """
        with ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
                for _ in range(60)
            ]
            sender.tasks.add_many(
                spec
                for port in silent
                for spec in (
                    {"url": f"http://127.0.0.1:{port}/hook", "deadline": 3},
                    {"url": f"{ana.url}/hook"},
                )
            )
            sender.runtime.start()
            wait_until(lambda: len(ana.got) == 60, what="the good receiver has got its tasks")
            tried = [
                task.attempts for task in sender.tasks.find(limit=1000) if ana.host not in task.url
            ]
            assert len(tried) == 60
            assert sum(tried) < 40
            sender.runtime.stop(0)

    @pytest.mark.slow
    def test_a_host_that_answers_late_takes_not_every_slot(
        self, sender: Bench, busy: Receiver
    ) -> None:
        """Nor one that refuses late: once an attempt has taken long, half of the slots are for
        others, whose tasks do not wait for the backlog.
        """

        @sender.tasks.task
        def own() -> None:
            """A task of the application."""

        held = threading.Event()
        busy.answer = lambda: Response(status=204, headers={"X-Held": str(held.wait(2.5))})
        sender.tasks.add_many({"url": f"{busy.url}/hook"} for _ in range(24))
        sender.runtime.start()
        queue = sender.tasks.queue("default")
        wait_until(lambda: queue.statistics().succeeded > 0, what="one has been answered")
        tasks = [own.enqueue() for _ in range(20)]
        for task in tasks:
            assert task.wait(60).state is State.SUCCEEDED
        assert queue.statistics().succeeded < 44
        held.set()
        wait_until(
            lambda: queue.statistics().succeeded == 44, what="all have succeeded", timeout=120
        )

    @pytest.mark.slow
    def test_a_host_that_answers_again_gets_its_tasks(self, sender: Bench, busy: Receiver) -> None:
        """All of them, once it does."""
        held = threading.Event()
        busy.answer = lambda: Response(status=204 if held.wait(20) else 500)
        sender.tasks.add_many(
            {"url": f"{busy.url}/hook", "deadline": 1, "retry": {"min_backoff_seconds": 0.1}}
            for _ in range(12)
        )
        sender.runtime.start()
        wait_until(
            lambda: any(task.last_reason == "timeout" for task in sender.tasks.find(limit=100)),
            what="a deadline has passed",
        )
        held.set()
        wait_until(
            lambda: sender.tasks.queue("default").statistics().succeeded == 12,
            what="all have succeeded",
            timeout=120,
        )

    def test_the_application_slows_itself_and_no_host(self, sender: Bench, ana: Receiver) -> None:
        """Its own routes in the queue whose handler asked for less; the queue's statistics tell."""

        @sender.tasks.worker("/busy")
        def busy() -> Response:
            return Response(status=503, headers={"Retry-After": "60"})

        sender.tasks.add("/busy")
        assert sender.tasks.drain() == 1
        statistics = sender.tasks.queue("default").statistics()
        assert statistics.enforced_rate is not None
        assert 250 <= statistics.enforced_rate < 500
        runtime = sender.runtime
        with runtime.store.reading() as connection:
            assert list(runtime.store.slowdowns.active(connection)) == ["/default"]
        assert sender.run(sender.tasks.add(f"{ana.url}/hook")).state == "succeeded"


class TestAReceiverKeepsFailing:
    """Its circuit opens: it neither holds up others nor uses up attempts."""

    @pytest.fixture
    def senders(self, database: TestDatabase) -> Iterator[tuple[Bench, Bench]]:
        """Two applications with a dispatcher each, on each database."""
        config: dict[str, Any] = {
            "TASKQUEUE_ALLOWED_HOSTS": ["127.0.0.1"],
            "TASKQUEUE_DISPATCHER": "off",
            "TASKQUEUE_DASHBOARD": True,
            "TASKQUEUE_DASHBOARD_ACCESS": lambda: "read",
        }
        with bench(database.url, **config) as two, bench(database.url, **config) as one:
            yield one, two  # in the context of the first
            for sender in (one, two):
                sender.runtime.stop(0)

    @pytest.fixture(params=["refused", "silent", "broken"])
    def dead(self, request: pytest.FixtureRequest) -> Iterator[str]:
        """A host that refuses connections, takes them and says nothing, or answers 500."""
        if request.param == "broken":
            with receiver(500) as one:
                yield one.host
            return
        with socket.socket() as own:
            own.bind(("127.0.0.1", 0))
            if request.param == "silent":
                own.listen(200)
            yield f"127.0.0.1:{own.getsockname()[1]}"

    @pytest.mark.slow
    def test_others_go_on_and_its_tasks_wait(
        self,
        senders: tuple[Bench, Bench],
        ana: Receiver,
        dead: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Of 300 tasks for it a few are attempted, before its circuit is open; why, doctor, the
        dashboard and the commands say so.
        """
        monkeypatch.setattr(circuits, "FIRST_PAUSE", 3600 * SECOND)
        sender, other = senders
        sender.tasks.add_many(
            {"url": f"{ana.url}/hook"}
            if number % 2
            else {"url": f"http://{dead}/hook", "deadline": 2}
            for number in range(600)
        )
        sender.runtime.start()
        other.runtime.start()
        wait_until(sender.tasks.open_circuits, what="the circuit is open", timeout=120)
        wait_until(lambda: len(ana.got) == 300, what="the good receiver has got its tasks")

        def waiting() -> list[Task]:
            return [task for task in sender.tasks.find(limit=1000) if dead in task.url]

        wait_until(
            lambda: not any(waiter.state is State.LEASED for waiter in waiting()),
            what="what was under way has ended",
        )
        assert sum(waiter.attempts for waiter in waiting()) < 100
        late = next(waiter for waiter in waiting() if waiter.attempts == 0)
        assert late.last_error is None
        why = sender.tasks.why(late)
        assert why.code == "circuit"
        assert f"flask taskqueue close-circuit {dead}" in why.sentence
        (found,) = [
            finding for finding in diagnosis.findings(sender.runtime) if dead in finding.text
        ]
        assert "Its circuit is open" in found.text
        page = sender.app.test_client().get("/taskqueue/")
        assert dead in page.text
        assert "Failing receivers" in page.text
        (circuit,) = sender.tasks.open_circuits()
        assert (circuit.target, circuit.failures >= 5) == (dead, True)

    @pytest.mark.slow
    def test_when_it_answers_again_everything_arrives(
        self, senders: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The probe is one task at a time, of both dispatchers; those that waited for it are sent
        once.
        """
        monkeypatch.setattr(circuits, "FIRST_PAUSE", SECOND // 20)
        sender, other = senders
        with receiver(500) as broken:
            sender.tasks.add_many((f"{broken.url}/hook", {"n": number}) for number in range(100))
            sender.runtime.start()
            other.runtime.start()
            wait_until(sender.tasks.open_circuits, what="the circuit is open")
            wait_until(
                lambda: any(circuit.failures > 20 for circuit in sender.tasks.open_circuits()),
                what="probes have failed",
                timeout=120,
            )
            broken.answer = lambda: Response(status=204)
            wait_until(
                lambda: sender.tasks.queue("default").statistics().succeeded == 100,
                what="all have succeeded",
                timeout=120,
            )
            assert sender.tasks.open_circuits() == []
            once = [task for task in sender.tasks.find(limit=1000) if task.attempts == 1]
            assert len(once) > 20

    @pytest.mark.slow
    def test_it_can_be_closed_by_hand(
        self, senders: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What waits is sent at once, however far away the next probe is."""
        monkeypatch.setattr(circuits, "FIRST_PAUSE", 3600 * SECOND)
        sender, other = senders
        with receiver(500) as broken:
            sender.tasks.add_many((f"{broken.url}/hook", {"n": number}) for number in range(40))
            sender.runtime.start()
            other.runtime.start()
            wait_until(sender.tasks.open_circuits, what="the circuit is open")
            wait_until(
                lambda: not sender.tasks.find(state=State.LEASED),
                what="what was under way has ended",
            )
            broken.answer = lambda: Response(status=204)
            assert sender.tasks.close_circuit(f"{broken.url}/hook")
            wait_until(
                lambda: sender.tasks.queue("default").statistics().succeeded == 40,
                what="all have succeeded",
                timeout=120,
            )
            assert not sender.tasks.close_circuit(broken.host)
