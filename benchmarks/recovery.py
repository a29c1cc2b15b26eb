"""From kill -9 of the process in which a task runs to the beginning of its next attempt, in
seconds.

    python -m benchmarks recovery [--rounds 10] [--lost 1] [--database sqlite URL ...]

In each round the handler blocks, and its process alone is killed: the supervisor of ``flask
taskqueue run`` sees that, gives the task back and starts another. ``--lost`` times the supervisor
is killed with it, as if the machine were gone: then another ``flask taskqueue run`` takes the task
when its lease has run out.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time

from .apps import application, database_name, dispatchers, ended, hold
from .notes import begun
from .table import show_spread


def killed_child(number: int) -> float:
    """Seconds from the end of a supervised process to the second attempt of what ran in it."""
    hold.add(number)
    first = begun(number)
    time.sleep(
        random.uniform(1.1, 2.1)
    )  # at any instant between two polls, and not at once after it was started
    at = time.time_ns()
    os.kill(first.pid, signal.SIGKILL)
    return (begun(number, 2).at - at) / 1e9


def killed_with_supervisor(number: int) -> float:
    """Seconds from the end of all processes of one ``flask taskqueue run`` to the second
    attempt in another.
    """
    running = [dispatchers(), dispatchers()]
    try:
        hold.add(number)
        first = begun(number)
        time.sleep(random.uniform(1.1, 11.1))  # at any instant between two renewals of the lease
        at = time.time_ns()
        os.killpg(os.getpgid(first.pid), signal.SIGKILL)
        return (begun(number, 2, limit=120).at - at) / 1e9
    finally:
        for process in running:
            ended(process)


def main() -> None:
    """Kill, wait, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--lost",
        type=int,
        default=1,
        help="rounds in which the supervisor is killed too, which take half a minute each",
    )
    parser.add_argument("--processes", type=int, default=1, help="how many the supervisor has")
    parser.add_argument(
        "--database",
        nargs="*",
        default=["sqlite"],
        help="SQLAlchemy URLs; by default a SQLite file",
    )
    given = parser.parse_args()
    rows: dict[str, list[float]] = {}
    for url in given.database:
        with application(url) as app, app.app_context():
            name = database_name(app)
            running = dispatchers(given.processes)
            try:
                rows[f"{name}, supervised"] = [
                    killed_child(number) for number in range(given.rounds)
                ]
            finally:
                ended(running)
            if given.lost:
                rows[f"{name}, supervisor killed too"] = [
                    killed_with_supervisor(1000 + number) for number in range(given.lost)
                ]
    show_spread("seconds", rows)


if __name__ == "__main__":
    main()
