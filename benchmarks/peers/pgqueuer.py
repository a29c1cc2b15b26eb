"""PgQueuer on PostgreSQL by asyncpg, an async task, batches of ten (its default) or of a
hundred.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import cache
from urllib.parse import urlsplit

from .body import POSTGRESQL, perform
from .verbs import run

BATCH = 100 if os.environ["BENCH_VARIANT"] == "batches" else 10


def prepare() -> None:
    """Its tables."""
    url = urlsplit(POSTGRESQL)
    where = {
        "PGHOST": str(url.hostname),
        "PGPORT": str(url.port),
        "PGUSER": str(url.username),
        "PGDATABASE": url.path[1:],
    }
    subprocess.run(
        [f"{os.path.dirname(sys.executable)}/pgq", "install"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **where},
    )


@cache
def _queries():  # type: ignore[no-untyped-def]
    import psycopg
    from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
    from pgqueuer.adapters.persistence.queries import SyncQueries

    return SyncQueries(SyncPsycopgDriver(psycopg.connect(POSTGRESQL, autocommit=True)))


def enqueue(number: int) -> None:
    """Add a task."""
    _queries().enqueue("perform", b"%d" % number)


async def consume() -> None:
    """Its worker, as its documentation has it run in a program."""
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver

    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(POSTGRESQL)))

    @queue.entrypoint("perform")
    async def task(job) -> None:  # type: ignore[no-untyped-def]
        perform(int(job.payload))

    await queue.run(batch_size=BATCH)


def work(processes: int) -> list[str]:
    """Its worker."""
    return [sys.executable, "-m", "benchmarks.peers.pgqueuer", "consume"]


if __name__ == "__main__":
    if sys.argv[1] == "consume":
        asyncio.run(consume())
    else:
        run(prepare, enqueue, work)
