"""The http transport against gunicorn on loopback, beside as many threads that only send requests.

They ask a view that does nothing, without the guard of a worker route, which looks the task up.

python -m benchmarks http [--tasks 1000] [--rounds 3] [--threads 8] [--database URL]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import psutil
import requests
import urllib3

from flask_taskqueue.core.delivery.delivery import Delivery, delivery_headers
from flask_taskqueue.core.delivery.verdict import OutgoingRequest, Reply
from flask_taskqueue.core.diagnosis.ping import ping_record
from flask_taskqueue.engine.transports.http import HttpTransport

from .apps import application, create_app, db_tasks, ended, nothing
from .table import Table

PORT = 8791
DRAIN = "drain, http transport"
URL = f"http://127.0.0.1:{PORT}"


def app() -> object:
    """What gunicorn serves."""
    return create_app()


def served(threads: int) -> subprocess.Popen[bytes]:
    """Gunicorn with one worker of so many threads."""
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-k",
        "gthread",
        "--threads",
        str(threads),
        "-b",
        f"127.0.0.1:{PORT}",
    ]
    server = subprocess.Popen([*command, "--log-level", "error", "benchmarks.http:app()"])
    while True:
        try:
            requests.post(f"{URL}/bare", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return server


def by_threads(threads: int, number: int, call: Callable[[], Callable[[], object]]) -> float:
    """Calls a second, of so many threads, each with a client of its own."""

    def loop() -> None:
        one = call()
        for _ in range(number // threads):
            one()

    running = [threading.Thread(target=loop) for _ in range(threads)]
    started = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return (number // threads) * threads / (time.perf_counter() - started)


def by_requests() -> Callable[[], object]:
    """A session of requests."""
    session = requests.Session()
    return lambda: session.post(f"{URL}/bare", data={"key": "x"}, timeout=5)


def by_urllib3() -> Callable[[], object]:
    """A pool of urllib3."""
    pool = urllib3.HTTPConnectionPool("127.0.0.1", PORT)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return lambda: pool.urlopen("POST", "/bare", body=b"key=x", headers=headers, timeout=5)


def by_transport() -> Callable[[], object]:
    """The http transport, with the headers of a task."""
    transport = HttpTransport(reply_cap=16_384, connect_timeout=5)
    record = ping_record("POST", "/bare")
    headers = {
        **delivery_headers(record),
        "webhook-id": record.id,
        "webhook-timestamp": "1" * 10,
        "webhook-signature": "v1," + "x" * 44,
    }
    request = OutgoingRequest(
        "POST",
        f"{URL}/bare",
        {"Content-Type": "application/x-www-form-urlencoded", **headers},
        b"key=x",
    )

    def send() -> Reply:
        started = time.monotonic()
        return transport.send(
            request, Delivery(record=record, started=started, expires=started + 5)
        )

    return send


class Tables:
    """What is measured: how many a second, and the processor time of each in this process and
    in gunicorn's.
    """

    def __init__(self, server: int, number: int) -> None:
        self._processes = [psutil.Process(), *(psutil.Process(server).children(recursive=True))]
        self._number = number
        self.rates = Table("per second")
        self.costs = Table("microsec.")

    def measure(self, name: str, run: Callable[[], object]) -> None:
        """One round of one row."""
        before, started = self._used(), time.perf_counter()
        run()
        self.rates.add(name, self._number / (time.perf_counter() - started))
        for where, used, earlier in zip(("here", "in gunicorn"), self._used(), before, strict=True):
            self.costs.add(f"{name}: {where}", (used - earlier) / self._number * 1_000_000)

    def _used(self) -> tuple[float, float]:
        here, *others = [sum(process.cpu_times()[:2]) for process in self._processes]
        return here, sum(others)


def main() -> None:
    """Measure in turn, and print medians and ranges."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    number = given.tasks // given.threads * given.threads
    loops = {"requests": by_requests, "urllib3": by_urllib3, "the http transport": by_transport}
    with application(given.database) as application_:
        runtime = application_.extensions["taskqueue"]

        def drain() -> None:
            assert (
                runtime.drain(transport="http", base_url=URL, concurrency=given.threads) == number
            )

        server = served(given.threads)
        try:
            tables = Tables(server.pid, number)
            for _ in range(given.rounds):
                for name, call in loops.items():
                    tables.measure(
                        f"bare loop of {name}", partial(by_threads, given.threads, number, call)
                    )
                db_tasks.add_many(nothing.spec() for _ in range(number))
                tables.measure(DRAIN, drain)
        finally:
            ended(server)
    others = ("bare loop of urllib3", "bare loop of the http transport", DRAIN)
    tables.rates.show(
        dict.fromkeys(others, "bare loop of requests") | {DRAIN: "bare loop of urllib3"}
    )
    print()
    tables.costs.show(
        {
            f"{name}: {where}": f"bare loop of requests: {where}"
            for where in ("here", "in gunicorn")
            for name in others
        }
    )


if __name__ == "__main__":
    main()
