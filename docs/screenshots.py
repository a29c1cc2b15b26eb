"""Takes the screenshots of the dashboard: a database is seeded, served, and visited with Chromium.

    python docs/screenshots.py

They go to docs/screenshots.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from pathlib import Path

import sqlalchemy as sa
from playwright.sync_api import Browser, sync_playwright
from seed import application, seed
from werkzeug.serving import make_server

HERE = Path(__file__).parent
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
VARIANTS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


def main() -> None:
    """Seed, serve, visit."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        app, tasks = application(f"sqlite:///{Path(folder) / 'shop.db'}")
        store = app.extensions["taskqueue"].store
        seed(store)
        with app.app_context():
            tasks.schedules()
        task = store.database.tables.task
        with store.reading() as connection:
            dead = connection.scalar(
                sa.select(task.c.id)
                .where(task.c.state == "dead", task.c.url == "/worker/thumbnail")
                .limit(1)
            )
        pages = {
            "overview": "",
            "tasks": "tasks",
            "task": f"tasks/{dead}",
            "handlers": "handlers",
            "errors": "errors",
        }
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
            for name, path in pages.items():
                take(browser, name, f"http://127.0.0.1:{server.server_port}/taskqueue/{path}")
            browser.close()
        server.shutdown()
        store.database.close()


def take(browser: Browser, name: str, url: str) -> None:
    """One page in each of its variants."""
    (HERE / "screenshots").mkdir(exist_ok=True)
    for variant, options in VARIANTS.items():
        context = browser.new_context(**options)
        page = context.new_page()
        page.goto(url)
        page.screenshot(path=HERE / "screenshots" / f"{name}-{variant}.png")
        context.close()


if __name__ == "__main__":
    main()
