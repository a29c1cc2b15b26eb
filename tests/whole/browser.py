"""A real browser, and an application that it can visit."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

FLAGS = (
    *(
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-dev-shm-usage",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium of this machine, headless. Skips by name where it is absent, or fails where it
    is required.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if "chromium" in os.environ.get("TASKQUEUE_TEST_REQUIRE", "").split(","):
            pytest.fail("chromium is required here and absent")
        pytest.skip("chromium is absent: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class _Silent(WSGIRequestHandler):
    protocol_version = "HTTP/1.0"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@dataclass(frozen=True)
class Site:
    """An application that is served."""

    app: Flask
    address: str


@contextmanager
def served(app: Flask) -> Iterator[Site]:
    """The application behind a real server of this process."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Silent)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield Site(app, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
