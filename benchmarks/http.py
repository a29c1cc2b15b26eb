"""The http transport against gunicorn on loopback, beside as many threads that only send requests.

python -m benchmarks http [--tasks 1000] [--rounds 3] [--threads 8] [--database URL]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import requests
import urllib3

from .apps import application, create_app, db_tasks, ended, nothing
from .table import Table

PORT = 8791
URL = f"http://127.0.0.1:{PORT}"


def app() -> object:
    """What gunicorn serves."""
    return create_app()


def served(threads: int) -> subprocess.Popen[bytes]:
    """Gunicorn with one worker of so many threads."""
    command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", str(threads), "-b", f"127.0.0.1:{PORT}"]
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


def main() -> None:
    """Measure in turn, and print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    table = Table("per second")
    with application(given.database) as application_:
        runtime = application_.extensions["taskqueue"]
        server = served(given.threads)
        try:
            for _ in range(given.rounds):
                table.add("bare loop of requests", by_threads(given.threads, given.tasks, by_requests))
                table.add("bare loop of urllib3", by_threads(given.threads, given.tasks, by_urllib3))
                db_tasks.add_many(nothing.spec() for _ in range(given.tasks))
                started = time.perf_counter()
                assert runtime.drain(transport="http", base_url=URL, concurrency=given.threads) == given.tasks
                table.add("drain, http transport", given.tasks / (time.perf_counter() - started))
        finally:
            ended(server)
    table.show({"drain, http transport": "bare loop of requests", "bare loop of urllib3": "bare loop of requests"})


if __name__ == "__main__":
    main()
