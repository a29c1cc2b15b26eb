"""Deliveries through nginx, with the configuration that the documentation names."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.apps import bench, served
from tests.databases import TestDatabase
from tests.waiting import wait_until
from tests.whole.test_serving import answers, free_port

DOCS = Path(__file__).parents[2] / "docs"
NGINX = shutil.which("nginx")

CONFIG = """\
daemon off;
worker_processes 1;
pid {place}/pid;
error_log {place}/errors;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    upstream app {{ {servers} }}
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


@contextmanager
def nginx(place: Path, servers: list[str], location: str) -> Iterator[str]:
    """Nginx before these servers; its URL."""
    port = free_port()
    upstream = " ".join(f"server {url.removeprefix('http://')};" for url in servers)
    file = place / "nginx.conf"
    file.write_text(CONFIG.format(place=place, servers=upstream, port=port, location=location))
    running = subprocess.Popen([str(NGINX), "-p", str(place), "-c", str(file)])
    try:
        wait_until(lambda: answers(port), what="nginx answers", timeout=20)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait()


@pytest.mark.skipif(NGINX is None, reason="there is no nginx")
@pytest.mark.parametrize("documented", [True, False])
def test_nginx_as_documented_sends_no_delivery_again(
    sqlite_database: TestDatabase, tmp_path: Path, documented: bool
) -> None:
    """Not even a GET that is not answered in time; without that line nginx does."""
    found = re.search(r"```nginx\n(.*?)```", (DOCS / "deadlines.md").read_text("utf-8"), re.DOTALL)
    assert found is not None
    location = found[1].replace("proxy_read_timeout 60s", "proxy_read_timeout 1s")
    if not documented:
        location = location.replace("proxy_next_upstream off;", "")
    with bench(sqlite_database.url, TASKQUEUE_CREATE_TABLES=True) as one:
        attempts: list[int] = []
        over = threading.Event()

        @one.tasks.worker("/report", methods=("GET",), retry={"task_retry_limit": 0})
        def report() -> None:
            attempts.append(1)
            over.wait(30)

        one.app.add_url_rule("/", "ready", lambda: "ready")
        with (
            served(one.app) as first,
            served(one.app) as second,
            nginx(tmp_path, [first, second], location) as url,
        ):
            task = report.add()
            one.runtime.drain(transport="http", base_url=url)
            over.set()
        assert len(attempts) == (1 if documented else 2)
        assert (task.wait(0).attempts, "504" in str(task.wait(0).last_error)) == (1, True)
