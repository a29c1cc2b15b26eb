"""PgBouncer before a PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.databases import TestDatabase
from tests.waiting import wait_until

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


@contextmanager
def pooled(database: TestDatabase, mode: str, *, connections: int = 4) -> Iterator[str]:
    """The URL of a database by way of PgBouncer, which knows no prepared statements.

    Skips the test without PgBouncer, or fails where it is required.
    """
    program = shutil.which("pgbouncer", path=_PATH)
    if program is None:
        if "pgbouncer" in os.environ.get("TASKQUEUE_TEST_REQUIRE", "").split(","):
            pytest.fail("pgbouncer is required here and absent")
        pytest.skip("pgbouncer is absent: apt-get install pgbouncer")
    url = sa.make_url(database.url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="taskqueue-pooler-") as directory:
        Path(directory).chmod(0o755)  # as root, PgBouncer runs as another user
        settings = Path(directory) / "pgbouncer.ini"
        settings.write_text(_settings(url, mode, port, connections))
        user = ["-u", _who_may_enter(url)] if os.getuid() == 0 else []
        running = subprocess.Popen(
            [program, *user, str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: _answers(port), what="PgBouncer listens")
            yield (
                url.difference_update_query(["host"])
                .set(host="127.0.0.1", port=port)
                .render_as_string(hide_password=False)
            )
        finally:
            running.kill()
            running.wait()


def _who_may_enter(url: sa.URL) -> str:
    """The user whose sockets they are; root is none that PgBouncer runs as."""
    folder = str(url.query.get("host", ""))
    owner = Path(folder).owner() if folder.startswith("/") else "root"
    return owner if owner != "root" else "nobody"


def _settings(url: sa.URL, mode: str, port: int, connections: int) -> str:
    password = f" password={url.password}" if url.password else ""
    return (
        "[databases]\n"
        f"{url.database} = host={url.query.get('host') or url.host or '127.0.0.1'} "
        f"port={url.port or 5432} "
        f"dbname={url.database} user={url.username}{password}\n"
        "[pgbouncer]\n"
        "listen_addr = 127.0.0.1\n"
        f"listen_port = {port}\n"
        "auth_type = any\n"
        f"pool_mode = {mode}\n"
        f"default_pool_size = {connections}\n"
        "unix_socket_dir =\n"
    )


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
