"""The dashboard in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from flask_taskqueue import RetryOptions, State, TaskQueue
from tests.dashboard.conftest import application
from tests.dashboard.payloads import MARK, poison
from tests.databases import TestDatabase
from tests.whole.browser import Site, chromium, served

PAGES = (
    "",
    "queues",
    "tasks",
    "tasks?state=dead",
    "handlers",
    "errors",
    "cron",
    "system?doctor=1",
    "tasks/{dead}",
    "tasks/{retrying}",
)
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with chromium() as one:
        yield one


@dataclass
class Shop:
    """A site with tasks in each state."""

    site: Site
    tasks: TaskQueue
    ids: dict[str, str] = field(default_factory=dict)

    def url(self, page: str) -> str:
        """Where a page is."""
        return f"{self.site.address}/taskqueue/{page.format(**self.ids)}"

    def state(self, name: str) -> State:
        """The state of a task now."""
        with self.site.app.app_context():
            return self.tasks.get(self.ids[name]).state


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A dead task, one that is tried again, one for later, one that succeeded, a schedule."""
    database = TestDatabase("sqlite", f"sqlite:///{tmp_path / 'shop.db'}")
    with (
        application(database, TASKQUEUE_DASHBOARD_USER=lambda: "ana") as one,
        served(one.app) as site,
    ):
        found = Shop(site, one.tasks)
        one.tasks.schedule("nightly", "/fine", "every day 03:00")
        found.ids["dead"] = one.tasks.add("/hopeless", {"why": "no paper", "token": "x"}).id
        found.ids["retrying"] = one.tasks.add(
            "/broken", retry=RetryOptions(min_backoff_seconds=900)
        ).id
        found.ids["done"] = one.tasks.add("/fine").id
        one.tasks.drain()
        found.ids["later"] = one.tasks.add("/fine", countdown=900, queue="mail").id
        yield found


@contextmanager
def visit(browser: Browser, **options: Any) -> Iterator[Page]:
    """A fresh page; any complaint in its console, any error of a script and any dialog fails
    the test.
    """
    complaints: list[str] = []
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    page = context.new_page()

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    try:
        yield page
    finally:
        context.close()
    assert complaints == []


@pytest.mark.parametrize(("theme", "size"), [("light", DESKTOP), ("dark", PHONE)])
def test_every_page_is_accessible(browser: Browser, shop: Shop, theme: Any, size: Any) -> None:
    """axe finds nothing, the policy refuses nothing, and nothing is wider than the screen."""
    with visit(browser, color_scheme=theme, viewport=size) as page:
        for item in PAGES:
            page.goto(shop.url(item))
            found = Axe().run(page)
            assert found.violations_count == 0, (item, found.generate_report())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), item


def test_on_a_phone_no_button_covers_another(browser: Browser, shop: Shop) -> None:
    """What asks first opens in its place, over the whole width, and moves the rest down."""
    with visit(browser, viewport=PHONE) as page:
        for path in ("errors", "queues", "tasks?state=scheduled", "tasks/{retrying}"):
            page.goto(shop.url(path))
            for fold in page.locator("details.fold > summary").all():
                fold.click()
            for menu in page.locator("details.menu").all():
                menu.locator("summary").click()
                form = menu.locator("> form, > div")
                assert form.evaluate("(one) => getComputedStyle(one).position") == "static", path
                assert Axe().run(page).violations_count == 0, path
                menu.locator("summary").click()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            for button in page.locator(".stack .actions :is(button, summary)").all():
                box = button.bounding_box()
                assert box is not None
                assert box["x"] + box["width"] <= PHONE["width"], path


def test_a_filter_is_saved_without_a_script(browser: Browser, shop: Shop) -> None:
    """By its name, and with one click it is there again."""
    with visit(browser, viewport=PHONE, java_script_enabled=False) as page:
        page.goto(shop.url("tasks?state=dead"))
        page.get_by_text("Save this filter…").click()
        page.get_by_label("Name", exact=True).fill("Gave up")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".notice[role=status]")).to_contain_text("Saved the filter")
        page.goto(shop.url("tasks"))
        page.get_by_role("link", name="Gave up").click()
        page.wait_for_url("**state=dead**")
        page.get_by_role("button", name="Forget the filter Gave up").click()
        expect(page.locator(".notice[role=status]")).to_contain_text("Forgot the filter.")


def test_times_are_told_in_full(browser: Browser, shop: Shop) -> None:
    """Beside how long ago it was, for people and for programs; refreshing leaves both."""
    with visit(browser, viewport=DESKTOP) as page:
        page.goto(shop.url("tasks?state=dead"))
        cell = page.locator("tbody td:last-child")
        full = cell.locator("time").get_attribute("title") or ""
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", full)
        expect(cell.locator(".at")).to_have_text(full[11:19])
        expect(cell.locator("time")).to_contain_text(re.compile("ago|now"))
        stamp = cell.locator("time").get_attribute("datetime") or ""
        assert datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M:%S UTC") == full


def test_a_page_without_tasks_is_accessible(browser: Browser, tmp_path: Path) -> None:
    """With nothing to show, too."""
    database = TestDatabase("sqlite", f"sqlite:///{tmp_path / 'empty.db'}")
    with (
        application(database) as one,
        served(one.app) as site,
        visit(browser, viewport=DESKTOP) as page,
    ):
        for path in ("", "tasks", "errors", "cron"):
            page.goto(f"{site.address}/taskqueue/{path}")
            assert Axe().run(page).violations_count == 0, path


def test_every_action_is_a_click(browser: Browser, shop: Shop) -> None:
    """Queues, tasks, selections, errors and schedules; each page that follows says what was
    done.
    """
    with visit(browser, viewport=DESKTOP) as page:
        notice = page.locator(".notice[role=status]")

        def click(path: str, *names: str, says: str) -> None:
            page.goto(shop.url(path))
            for name in names:
                page.get_by_text(name, exact=True).first.click() if name.endswith(
                    "…"
                ) else page.get_by_role("button", name=name).first.click()
            expect(notice).to_contain_text(says)

        click("queues", "Pause default", says="Paused the queue.")
        click("queues", "Resume default", says="Resumed the queue.")
        page.goto(shop.url("queues"))
        expect(page.get_by_label("Max concurrent").first).to_be_hidden()
        page.locator("details.fold > summary").first.click()
        page.get_by_label("Max concurrent").first.fill("3")
        page.get_by_role("button", name="Change limits of default").click()
        expect(notice).to_contain_text("Changed the limits.")
        click("cron", "Run nightly now", says="Added a task of the schedule.")
        click("cron", "Pause nightly", says="Paused the schedule.")
        click("cron", "Resume nightly", says="Resumed the schedule.")
        click("tasks/{retrying}", "Run now", says="1 task will run now.")
        click("tasks/{dead}", "Requeue", says="Requeued 1 task.")
        click("tasks/{dead}", "Delete…", "Delete", says="Cancelled 1 task.")
        page.goto(shop.url("tasks/{dead}"))
        page.get_by_text("Edit as a new task").click()
        page.get_by_label("Body").fill("why=still no paper&token=\u2022\u2022\u2022")
        page.get_by_role("button", name="Add copy").click()
        expect(notice).to_contain_text("This is the copy.")
        with shop.site.app.app_context():
            shop.tasks.drain()
        click("errors", "Requeue 1 dead…", "Requeue 1 dead", says="Requeued 1 task.")
        page.goto(shop.url("tasks?state=scheduled"))
        page.get_by_label("Select all on this page").check()
        page.get_by_role("button", name="Run now").first.click()
        expect(notice).to_contain_text("1 task will run now.")
        click("tasks?state=due", "All matching…", "Delete all", says="Cancelled ")
        page.goto(shop.url("queues"))
        page.locator("details.fold > summary").first.click()
        page.get_by_text("Purge…", exact=True).first.click()
        page.get_by_role("button", name="Purge default").click()
        expect(notice).to_contain_text("Cancelled ")
        page.goto(shop.url("system"))
        expect(page.get_by_role("table").last).to_contain_text("ana")
    assert shop.state("later") == State.CANCELLED


def test_the_keyboard_is_enough(browser: Browser, shop: Shop) -> None:
    """Sections, search, rows, selection and an action, without a mouse; the first stop skips to
    the content.
    """
    with visit(browser, viewport=DESKTOP) as page:
        page.goto(shop.url(""))
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("g")
        page.keyboard.press("t")
        page.wait_for_url("**/tasks")
        page.keyboard.press("/")
        page.keyboard.type("hopeless")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=hopeless**")
        page.keyboard.press("j")
        page.keyboard.press("x")
        assert page.locator("input[name=id]").first.is_checked()
        page.get_by_role("button", name="Requeue").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".notice[role=status]")).to_contain_text("Requeued 1 task.")
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("#keys").is_visible()
    assert shop.state("dead") == State.SCHEDULED


def test_enter_opens_a_row_and_never_acts(browser: Browser, shop: Shop) -> None:
    """On the row that j leads to, on its box, with a selection, with and without the script;
    what acts are buttons alone.
    """
    for script in (True, False):
        with visit(browser, viewport=DESKTOP, java_script_enabled=script) as page:
            for state, name in (("dead", "dead"), ("scheduled", "later")):
                page.goto(shop.url(f"tasks?state={state}"))
                box = page.locator("tbody input[name=id]").first
                box.check()
                box.focus()
                page.keyboard.press("Enter")
                if script:
                    page.wait_for_url(f"**/tasks/{shop.ids[name]}")
                    page.goto(shop.url(f"tasks?state={state}"))
                    page.keyboard.press("j")
                    page.keyboard.press("Enter")
                    page.wait_for_url(f"**/tasks/{shop.ids[name]}")
                else:
                    assert f"tasks?state={state}" in page.url
                assert page.locator(".notice[role=status]").count() == 0
    assert (shop.state("dead"), shop.state("later")) == (State.DEAD, State.SCHEDULED)
    with shop.site.app.app_context():
        later = shop.tasks.get(shop.ids["later"])
    assert later.due_at == later.eta


def test_what_cannot_be_undone_asks_first(browser: Browser, shop: Shop) -> None:
    """A selection is deleted, and a group requeued, by a second click, which says how many."""
    with visit(browser, viewport=DESKTOP) as page:
        page.goto(shop.url("tasks?state=scheduled"))
        page.get_by_label("Select all on this page").check()
        page.locator("#selection summary").click()
        expect(page.locator("#selection .menu")).to_contain_text("cannot be undone")
        assert shop.state("later") == State.SCHEDULED
        page.get_by_role("button", name="Delete 1 selected").click()
        expect(page.locator(".notice[role=status]")).to_contain_text("Cancelled 1 task.")
        page.goto(shop.url("errors"))
        page.get_by_text("Requeue 1 dead…").click()
        expect(page.locator("details.menu[open]")).to_contain_text("1 dead task will be requeued")
        assert shop.state("dead") == State.DEAD
        page.get_by_role("button", name="Requeue 1 dead").click()
        expect(page.locator(".notice[role=status]")).to_contain_text("Requeued 1 task.")
    assert (shop.state("later"), shop.state("dead")) == (State.CANCELLED, State.SCHEDULED)


def test_a_group_of_errors_leads_to_its_tasks(browser: Browser, shop: Shop) -> None:
    """From the number of its tasks to their list, where they can be selected."""
    with visit(browser, viewport=DESKTOP) as page:
        page.goto(shop.url("errors"))
        page.get_by_label("The 1 dead tasks of this error").click()
        expect(page.locator("table.list tbody tr")).to_have_count(1)
        expect(page.locator("table.list")).to_contain_text(shop.ids["dead"])
        page.get_by_role("button", name="Filter").click()
        page.wait_for_url("**group=**")
        expect(page.locator("table.list tbody tr")).to_have_count(1)
        assert Axe().run(page).violations_count == 0


def test_pages_refresh_themselves_but_not_while_somebody_types(
    browser: Browser, shop: Shop
) -> None:
    """What has changed comes in; a text half written and a selection stay."""
    with visit(browser, viewport=DESKTOP) as page:
        page.goto(shop.url("tasks"))
        page.get_by_label("Refresh").select_option("2")
        with shop.site.app.app_context():
            new = shop.tasks.add("/fine")
        expect(page.locator("table")).to_contain_text(new.id)
        page.get_by_label("Search").fill("half a word")
        with shop.site.app.app_context():
            newer = shop.tasks.add("/fine")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_timeout(300)
        assert page.get_by_label("Search").input_value() == "half a word"
        assert newer.id not in page.locator("table").inner_text()
        page.get_by_label("Theme").select_option("dark")
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
        page.get_by_label("Theme").select_option("")


def test_what_the_script_shows_and_what_is_marked_outlive_a_refresh(
    browser: Browser, shop: Shop
) -> None:
    """The box that selects all stays; a text that is being copied stays marked."""
    with visit(browser, viewport=DESKTOP) as page:
        page.goto(shop.url("tasks"))
        with shop.site.app.app_context():
            new = shop.tasks.add("/fine")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("table")).to_contain_text(new.id)
        page.get_by_label("Select all on this page").check()
        page.goto(shop.url("tasks/{dead}"))
        page.locator("p.error").select_text()
        marked = page.evaluate("getSelection().toString()")
        with page.expect_response(lambda reply: reply.url == page.url):
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_timeout(300)
        assert marked
        assert page.evaluate("getSelection().toString()") == marked


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_no_long_word_makes_a_page_wider_than_the_screen(
    browser: Browser, tmp_path: Path, size: Any
) -> None:
    """As long as the queue takes it: names, keys, headers and errors."""
    long, word = "q" * 100, "w" * 1000
    database = TestDatabase("sqlite", f"sqlite:///{tmp_path / 'long.db'}")
    with (
        application(database, TASKQUEUE_QUEUES={long: {}}) as one,
        served(one.app) as site,
        visit(browser, viewport=size) as page,
    ):
        one.tasks.schedule(long, "/fine", "every day 03:00", description=word)
        found = [
            one.tasks.add("/hopeless", {"why": word}, queue=long),
            one.tasks.add("/fine", queue=long, name="n" * 500, headers={"X-Word": word}),
        ]
        one.tasks.drain()
        for path in (*PAGES[:-2], *(f"tasks/{task.id}" for task in found)):
            page.goto(f"{site.address}/taskqueue/{path}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_it_works_without_a_script(browser: Browser, shop: Shop) -> None:
    """Every page shows, and an action acts."""
    with visit(browser, viewport=DESKTOP, java_script_enabled=False) as page:
        for item in PAGES:
            assert page.goto(shop.url(item)).status == 200  # type: ignore[union-attr]
        page.goto(shop.url("tasks/{dead}"))
        page.get_by_role("button", name="Requeue").click()
        expect(page.locator(".notice[role=status]")).to_contain_text("Requeued 1 task.")
    assert shop.state("dead") == State.SCHEDULED


def test_nothing_stored_runs(browser: Browser, tmp_path: Path) -> None:
    """Forty payloads in every field: none runs, none opens a dialog, none makes the policy
    speak.
    """
    database = TestDatabase("sqlite", f"sqlite:///{tmp_path / 'poisoned.db'}")
    with (
        application(database) as one,
        served(one.app) as site,
        visit(browser, viewport=DESKTOP) as page,
    ):
        one.tasks.add("/fine")
        ids = poison(one.store)
        for path in (*PAGES[:8], *(f"tasks/{one_id}" for one_id in ids[::8])):
            page.goto(f"{site.address}/taskqueue/{path}")
            assert page.evaluate(f"typeof window.{MARK}") == "undefined", path


def test_another_site_cannot_act(browser: Browser, shop: Shop) -> None:
    """A page elsewhere that posts a form gets a refusal, by name and by address of this
    machine, and nothing changes.
    """
    evil = Flask("evil")
    target = shop.url("tasks/{dead}/requeue")
    evil.add_url_rule(
        "/",
        view_func=lambda: (
            f'<form id="f" method="post" action="{target}"></form><button form="f">Win</button>'
        ),
    )
    with served(evil) as other:
        for address in (other.address, other.address.replace("127.0.0.1", "localhost")):
            context = browser.new_context()
            page = context.new_page()
            page.goto(address)
            with page.expect_navigation() as reply:
                page.get_by_role("button").click()
            assert reply.value is not None
            assert reply.value.status == 403
            context.close()
    assert shop.state("dead") == State.DEAD
