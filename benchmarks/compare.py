"""The peers beside Flask-TaskQueue, in interleaved rounds of one run.

    python -m benchmarks compare [--rounds 3] [--scale 1] [--only NAME ...] [--csv FILE]

Each peer has a virtual environment of its own, made on demand (BENCH_ENVIRONMENTS, by default in
the user's cache). Needed: PostgreSQL (user postgres, database bench_peers is made anew), Redis
(database 9 is emptied), RabbitMQ and MariaDB on this machine; BENCH_PGPORT, BENCH_REDIS_PORT,
BENCH_MQPORT and BENCH_MARIADB say otherwise. A peer that cannot run is left out by name.

Tasks are added one by one, then one worker process drains them: once with the peer's own no-op,
once with equal work, where each peer's task makes the same request to a Flask application in
process. Ours is such a request in both. A third run measures the time from the return of adding
to the start of the task, with an idle worker.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .table import absolute

HERE = Path(__file__).parent.parent
ENVIRONMENTS = Path(
    os.environ.get("BENCH_ENVIRONMENTS", Path.home() / ".cache" / "flask-taskqueue-benchmarks")
)
POSTGRESQL = "psycopg[binary]"
OURS = "Flask-TaskQueue, "
WORKS = {"note": "no-op", "request": "equal work"}
"""The columns of rates by the work of the tasks."""

Found = dict[str, dict[str, list[float]]]
"""By column and peer, what each round found."""


@dataclass(frozen=True)
class Peer:
    """How a peer is run, and how many tasks it drains in a second or two."""

    name: str
    module: str
    tasks: int
    packages: tuple[str, ...] = ()
    variant: str = ""
    python: str = "python3"


PEERS = (
    Peer("Flask-TaskQueue, SQLite", "flask_taskqueue", 6000, variant="sqlite"),
    Peer("Flask-TaskQueue, PostgreSQL", "flask_taskqueue", 6000, variant="postgresql"),
    Peer("Flask-TaskQueue, MariaDB", "flask_taskqueue", 6000, variant="mariadb"),
    Peer(
        "PgQueuer, batches of 100", "pgqueuer", 6000, ("pgqueuer", "asyncpg", POSTGRESQL), "batches"
    ),
    Peer("PgQueuer, default", "pgqueuer", 3000, ("pgqueuer", "asyncpg", POSTGRESQL), "default"),
    Peer("Huey, SQLite", "huey", 3000, ("huey",)),
    Peer("Chancy, eager", "chancy", 1500, ("chancy",)),
    Peer("Dramatiq, Redis", "dramatiq", 3000, ("dramatiq[redis]",)),
    Peer("Celery, RabbitMQ", "celery", 2000, ("celery", "redis", "packaging"), "rabbitmq"),
    Peer("Celery, Redis", "celery", 1000, ("celery", "redis", "packaging"), "redis"),
    Peer("Oban, PostgreSQL", "oban", 1500, ("oban", POSTGRESQL), python="python3.12"),
    Peer("Procrastinate, 10 at a time", "procrastinate", 600, ("procrastinate", POSTGRESQL)),
    Peer(
        "Django Tasks, PostgreSQL",
        "django_tasks",
        300,
        ("django-tasks", "django-tasks-db", POSTGRESQL),
    ),
    Peer("RQ, SimpleWorker", "rq", 300, ("rq", "redis")),
)


class Bench:
    """One peer on this machine."""

    def __init__(self, peer: Peer, directory: Path) -> None:
        self.peer = peer
        self._notes = directory / f"{peer.module}{peer.variant}"
        self._python = self._environment()

    def drained(self, work: str, tasks: int) -> tuple[float, float]:
        """Adds a second, and tasks a second of the last nine tenths."""
        self._prepare(work)
        added = self._enqueue(work, 0, tasks, 0)["per_second"]
        worker = self._start(work)
        try:
            self._wait(tasks)
        finally:
            _stop(worker)
        starts = sorted(at for _, at in self._noted())
        tenth = len(starts) // 10
        return added, (len(starts) - 1 - tenth) / ((starts[-1] - starts[tenth]) / 1e9)

    def latencies(self, tasks: int) -> list[float]:
        """Milliseconds from the return of adding to the start."""
        self._prepare("note")
        worker = self._start("note")
        try:
            self._enqueue("note", 10**6, 10**6 + 3, 0)
            self._wait(3)
            time.sleep(1)
            returned = self._enqueue("note", 0, tasks, 0.06)["returned"]
            self._wait(tasks + 3)
        finally:
            _stop(worker)
        began = dict(self._noted())
        return [(began[number] - at) / 1e6 for number, at in enumerate(returned)]

    def _environment(self) -> str:
        if not self.peer.packages:
            return sys.executable
        place = ENVIRONMENTS / self.peer.module
        if not (place / "bin" / "python").exists():
            subprocess.run([self.peer.python, "-m", "venv", str(place)], check=True)
        if not (place / "ready").exists():
            subprocess.run(
                [str(place / "bin" / "pip"), "install", "-q", "flask", *self.peer.packages],
                check=True,
            )
            (place / "ready").touch()
        return str(place / "bin" / "python")

    def _run(self, work: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "BENCH_NOTES": str(self._notes),
            "BENCH_WORK": work,
            "BENCH_VARIANT": self.peer.variant,
        }
        environment |= {"PYTHONPATH": str(HERE), "PYTHONWARNINGS": "ignore"}
        command = [self._python, "-m", f"benchmarks.peers.{self.peer.module}", *arguments]
        printed = (
            subprocess.DEVNULL if arguments[0] == "work" else subprocess.PIPE
        )  # nobody reads what workers print
        with Path(f"{self._notes}.log").open("a") as log:
            return subprocess.Popen(
                command,
                cwd=HERE,
                env=environment,
                text=True,
                stdout=printed,
                stderr=log,
                start_new_session=True,
            )

    def _prepare(self, work: str) -> None:
        self._notes.unlink(missing_ok=True)
        _empty_database()
        if self._run(work, "prepare").wait(120):
            raise RuntimeError(Path(f"{self._notes}.log").read_text()[-500:])

    def _enqueue(self, work: str, first: int, last: int, apart: float) -> dict[str, list[int]]:
        running = self._run(work, "enqueue", str(first), str(last), str(apart))
        out, _ = running.communicate(timeout=300)
        if running.returncode:
            raise RuntimeError(Path(f"{self._notes}.log").read_text()[-500:])
        found: dict[str, list[int]] = json.loads(out.strip().splitlines()[-1])
        return found

    def _start(self, work: str) -> subprocess.Popen[str]:
        return self._run(work, "work")

    def _noted(self) -> list[tuple[int, int]]:
        return (
            list(struct.iter_unpack("<qq", self._notes.read_bytes()))
            if self._notes.exists()
            else []
        )

    def _wait(self, tasks: int) -> None:
        limit = time.monotonic() + 90
        while not self._notes.exists() or self._notes.stat().st_size < 16 * tasks:
            if time.monotonic() > limit:
                raise TimeoutError(f"{len(self._noted())} of {tasks} tasks have run")
            time.sleep(0.02)


def _stop(worker: subprocess.Popen[str]) -> None:
    worker.terminate()
    with suppress(subprocess.TimeoutExpired):
        worker.wait(3)
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)  # a session of our own
    worker.wait()


def _empty_database() -> None:
    import psycopg
    import pymysql

    with psycopg.connect(
        f"postgresql://postgres@127.0.0.1:{os.environ.get('BENCH_PGPORT', '5432')}/postgres",
        autocommit=True,
    ) as server:
        server.execute("DROP DATABASE IF EXISTS bench_peers WITH (FORCE)")
        server.execute("CREATE DATABASE bench_peers")
    if "BENCH_MARIADB" not in os.environ:
        with pymysql.connect(host="127.0.0.1", user="root") as mariadb:
            mariadb.cursor().execute("CREATE DATABASE IF NOT EXISTS bench_peers")


def measure(benches: list[Bench], rounds: int, scale: float) -> Found:
    """Measure in rounds; who fails in a round has a figure less, and is named. Ctrl-C ends it
    early.
    """
    found: Found = defaultdict(lambda: defaultdict(list))
    with suppress(KeyboardInterrupt):
        _measure(found, benches, rounds, scale)
    return found


def _measure(found: Found, benches: list[Bench], rounds: int, scale: float) -> None:
    for number in range(rounds):
        for bench in benches:
            name, tasks = bench.peer.name, max(100, int(bench.peer.tasks * scale))
            try:
                for work, column in WORKS.items():
                    added, drained = bench.drained(work, tasks)
                    found["add"][name].append(added)
                    found[column][name].append(drained)
                if number == 0:
                    found["latency"][name] = bench.latencies(60)
            except (
                RuntimeError,
                TimeoutError,
                OSError,
                ValueError,
                KeyError,
                subprocess.SubprocessError,
            ) as error:
                print(f"{name}: {type(error).__name__}: {str(error)[-300:]}", file=sys.stderr)
            print(".", end="", file=sys.stderr, flush=True)


def show(found: Found) -> None:
    """Print the tables: our rate over each peer's, and what was measured."""
    ours = [name for name in found["equal work"] if name.startswith(OURS)]
    print(f"\n| {' | '.join(['ours over', *(of for name in ours for of in _columns(name))])} |")
    print("|---|" + "---:|" * (2 * len(ours)))
    for peer in found["equal work"]:
        cells = [
            _ratio(found[work].get(name), found[work].get(peer))
            for name in ours
            for work in WORKS.values()
        ]
        print(f"| {peer} | {' | '.join(cells)} |")
    if absolute():
        _show_absolute(found)


def _columns(ours: str) -> list[str]:
    return [f"{ours.removeprefix(OURS)}, {work}" for work in WORKS.values()]


def _ratio(ours: list[float] | None, peer: list[float] | None) -> str:
    return f"{statistics.median(ours) / statistics.median(peer):.2f}" if ours and peer else ""


def _show_absolute(found: Found) -> None:
    print("\n| peer | add/s | no-op/s | equal work/s | p50 ms | p99 ms |")
    print("|---|" + "---:|" * 5)
    for peer in found["equal work"]:
        cells = [_cell(found[column].get(peer, [])) for column in ("add", *WORKS.values())]
        late = sorted(found["latency"].get(peer, []))
        cells += [f"{late[int(len(late) * part)]:.1f}" if late else "" for part in (0.5, 0.99)]
        print(f"| {peer} | {' | '.join(cells)} |")


def write(found: Found, path: Path) -> None:
    """Write the medians of the rates as CSV, for the chart."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["queue", *WORKS.values()])
        for peer in found["equal work"]:
            rows.writerow(
                [peer, *(round(statistics.median(found[work][peer])) for work in WORKS.values())]
            )


def _cell(values: list[float]) -> str:
    return (
        f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        if values
        else ""
    )


def _set_up(peers: Iterable[Peer], directory: Path) -> Iterator[Bench]:
    """The peers whose Python and packages are to be had here; the others are named."""
    for peer in peers:
        try:
            yield Bench(peer, directory)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{peer.name} is left out: {error}", file=sys.stderr)


def main() -> None:
    """Measure in turn, and print medians and ranges."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", help="parts of names")
    parser.add_argument("--csv", type=Path, help="a file for the chart's data")
    given = parser.parse_args()
    chosen = [
        peer
        for peer in PEERS
        if not given.only or any(one.lower() in peer.name.lower() for one in given.only)
    ]
    with tempfile.TemporaryDirectory() as directory:
        benches = list(_set_up(chosen, Path(directory)))
        found = measure(benches, given.rounds, given.scale)
    show(found)
    if given.csv is not None:
        write(found, given.csv)


if __name__ == "__main__":
    main()
