"""The progress of a task in a real browser, by the script of the documentation and a recipe's."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import render_template_string
from playwright.sync_api import Browser, expect

from flask_taskqueue import current_task
from tests.apps import bench, closing
from tests.databases import TestDatabase
from tests.test_recipes import contacts, example
from tests.whole.browser import chromium, served

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with chromium() as one:
        yield one


def snippet() -> str:
    """The page of the documentation."""
    page = (ROOT / "docs/queues.md").read_text(encoding="utf-8")
    [found] = re.findall(r"```html\n(.*?)```", page, re.DOTALL)
    return str(found)


def test_the_documented_script_moves_the_bar_and_sees_the_end(
    browser: Browser, sqlite_database: TestDatabase
) -> None:
    """The bar stands where the handler is while it runs; then the page is loaded again."""
    with bench(sqlite_database.url, TASKQUEUE_PROGRESS=True) as one:
        go_on = threading.Event()

        @one.tasks.worker("/work")
        def work() -> None:
            current_task.progress(3, 10)
            assert go_on.wait(60)

        task = work.add()

        @one.app.get("/page")
        def page() -> str:
            if one.tasks.get(task.id).state.is_finished:
                return "<p>It is done.</p>"
            return render_template_string(snippet(), url=one.tasks.progress_url(task))

        with served(one.app) as site:
            visitor = browser.new_page()
            visitor.goto(f"{site.address}/page")
            dispatcher = threading.Thread(target=one.runtime.drain)
            dispatcher.start()
            try:
                expect(visitor.locator("progress")).to_have_js_property("value", 0.3, timeout=30000)
            finally:
                go_on.set()
                dispatcher.join(60)
            expect(visitor.locator("p")).to_have_text("It is done.", timeout=30000)
            visitor.close()


def test_the_recipe_shows_an_import_to_its_end(browser: Browser, tmp_path: Path) -> None:
    """From the form to the result."""
    module = example("upload/app")
    database = f"sqlite:///{tmp_path / 'upload.db'}"
    config = {"TESTING": True, "SQLALCHEMY_DATABASE_URI": database, "UPLOADS": tmp_path}
    app = module.create_app(config)
    with app.app_context(), closing(app), served(app) as site:
        visitor = browser.new_page()
        visitor.goto(site.address)
        file = {"name": "c.csv", "mimeType": "text/csv", "buffer": contacts(250).getvalue()}
        visitor.locator("input").set_input_files(file)  # type: ignore[arg-type]
        visitor.locator("button").click()
        expect(visitor.locator("progress")).to_be_visible()
        module.tasks.drain()
        expect(visitor.locator("p")).to_have_text("succeeded: 250 contacts. ", timeout=30000)
        visitor.close()
