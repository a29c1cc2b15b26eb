"""The recipes of the documentation: each app does for its users what its page says."""

from __future__ import annotations

import re
import smtplib
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email import message_from_bytes
from email.message import Message
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response

from flask_taskqueue import TaskQueue
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import closing, served
from tests.receivers import receiver

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "docs/recipes"


class Recipe:
    """An example app in testing, its module, its queue and a browser."""

    def __init__(self, module: Any, app: Flask, taskqueue: Any) -> None:
        self.module = module
        self.app = app
        self.taskqueue = taskqueue
        self.browser = app.test_client()
        self.tasks: TaskQueue = module.tasks

    def rows(self, model: str) -> list[Any]:
        """All rows of one of its models."""
        db = self.module.db
        with self.app.app_context():
            return list(db.session.scalars(db.select(getattr(self.module, model))))


def example(path: str) -> Any:
    """The module of an example, imported anew."""
    name = f"example_{re.sub(r'[^a-z]', '_', path)}"
    spec = spec_from_file_location(name, ROOT / "examples" / f"{path}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Open = Callable[..., Recipe]


@pytest.fixture
def open_recipe(tmp_path: Path) -> Iterator[Open]:
    """Opens an example with a database in a file of its own; with ``network`` its tasks really go
    out, by ``tasks.drain()``.
    """
    with ExitStack() as stack:

        def opening(path: str, *, network: bool = False, **config: Any) -> Recipe:
            module = example(path)
            stack.callback(sys.modules.pop, module.__name__)
            database = f"sqlite:///{tmp_path / path.replace('/', '-')}.db"
            key = "SQLALCHEMY_DATABASE_URI" if hasattr(module, "db") else "TASKQUEUE_DATABASE_URI"
            app = module.create_app({"TESTING": True, key: database, **config})
            stack.enter_context(app.app_context())
            stack.enter_context(closing(app))
            tester = None if network else stack.enter_context(TaskQueueTester(app))
            return Recipe(module, app, tester)

        yield opening


class Mailbox:
    """A mail server that keeps what it is sent, and answers ``replies`` to recipients first."""

    def __init__(self) -> None:
        self.replies: list[str] = []
        self.mails: list[Message] = []
        self.port = 0


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mail server on a port of its own."""
    box = Mailbox()

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            while (line := self.rfile.readline().decode().strip().upper()) and line != "QUIT":
                if line.startswith("RCPT") and box.replies:
                    self._say(box.replies.pop(0))
                elif line == "DATA":
                    self._say("354 go on")
                    box.mails.append(message_from_bytes(self._text()))
                    self._say("250 taken")
                else:
                    self._say("250 well")
            self._say("221 bye")

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def _text(self) -> bytes:
            return b"".join(iter(self.rfile.readline, b".\r\n"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        box.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()


class TestMail:
    def test_a_mail_arrives_once_although_the_first_attempt_failed(self, open_recipe: Open) -> None:
        """The server is too busy at first; the retry succeeds."""
        with mailbox() as box:
            box.replies = ["451 try later"]
            shop = open_recipe("mail/app", MAIL_PORT=box.port)
            assert shop.browser.post("/", data={"email": "ana@shop.example"}).status_code == 303
            first = shop.taskqueue.run_due()
            assert isinstance(first[0].exception, smtplib.SMTPRecipientsRefused)
            assert box.mails == []
            assert shop.taskqueue.advance("1m", run=True).ok
            assert [mail["To"] for mail in box.mails] == ["ana@shop.example"]
            assert "order 1: mailed" in shop.browser.get("/").text

    @pytest.mark.parametrize("fault", ["duplicate", "crash"])
    def test_a_delivery_that_is_repeated_sends_no_second_mail(
        self, open_recipe: Open, fault: str
    ) -> None:
        """The order remembers that its mail has been sent."""
        with mailbox() as box:
            shop = open_recipe("mail/app", MAIL_PORT=box.port)
            shop.browser.post("/", data={"email": "ana@shop.example"})
            with shop.taskqueue.chaos(**{fault: True}):
                shop.taskqueue.run_due()
            shop.taskqueue.run_all()
            assert len(box.mails) == 1

    def test_a_mail_has_the_same_id_at_each_attempt(self, open_recipe: Open) -> None:
        """Should it be sent twice after all, its receiver can tell."""
        with mailbox() as box:
            shop = open_recipe("mail/app", MAIL_PORT=box.port)
            shop.browser.post("/", data={"email": "ana@shop.example"})
            with shop.taskqueue.chaos(crash=True):
                shop.taskqueue.run_due()
            db = shop.module.db
            db.session.execute(db.update(shop.module.Order).values(mailed_at=None))
            db.session.commit()  # as if the process had died before the handler's own commit
            shop.taskqueue.run_all()
            assert len(box.mails) == 2
            assert len({mail["Message-ID"] for mail in box.mails}) == 1

    def test_a_mailbox_that_does_not_exist_is_not_tried_again(self, open_recipe: Open) -> None:
        """The task is dead, and says what the server said."""
        with mailbox() as box:
            box.replies = ["550 no such mailbox"]
            shop = open_recipe("mail/app", MAIL_PORT=box.port)
            shop.browser.post("/", data={"email": "nobody@shop.example"})
            [attempt] = shop.taskqueue.run_due()
            assert attempt.task.state == "dead"
            assert "no such mailbox" in (attempt.error or "")

    def test_no_order_means_no_mail(self, open_recipe: Open) -> None:
        """A request that fails leaves neither."""
        shop = open_recipe("mail/app")
        assert shop.browser.post("/", data={}).status_code == 400
        shop.taskqueue.refute_enqueued()


def bitmap(width: int, height: int) -> bytes:
    """A picture in which each pixel says where it is."""
    padding = bytes(-width * 3 % 4)
    rows = [b"".join(bytes((x, y, 7)) for x in range(width)) + padding for y in range(height)]
    sizes = [width.to_bytes(4, "little"), height.to_bytes(4, "little")]
    header = b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    header += b"".join(sizes) + b"\x01\x00\x18\x00" + bytes(24)
    return header + b"".join(rows)


class TestThumbnails:
    def test_an_uploaded_picture_gets_a_thumbnail(self, open_recipe: Open, tmp_path: Path) -> None:
        """A quarter as wide and as high; it appears when the task has run."""
        gallery = open_recipe("thumbnails/app", PICTURES=tmp_path)
        sent = {"picture": (BytesIO(bitmap(42, 20)), "cat.bmp")}
        assert gallery.browser.post("/", data=sent).status_code == 303
        assert "<img" not in gallery.browser.get("/").text
        assert gallery.taskqueue.run_all().ok
        [shown] = re.findall(r'<img src="([^"]+)"', gallery.browser.get("/").text)
        with gallery.browser.get(shown) as reply:
            small = reply.data
        assert (small[18:22], small[22:26]) == ((10).to_bytes(4, "little"), b"\x05\0\0\0")
        assert small[54:60] == bytes((0, 0, 7, 4, 0, 7))
        assert small[54 + 32 :][:6] == bytes((0, 4, 7, 4, 4, 7))

    def test_what_is_no_picture_is_not_tried_again(self, open_recipe: Open, tmp_path: Path) -> None:
        """Another attempt would not make it one."""
        gallery = open_recipe("thumbnails/app", PICTURES=tmp_path)
        gallery.browser.post("/", data={"picture": (BytesIO(b"a letter"), "letter.txt")})
        [attempt] = gallery.taskqueue.run_all()
        assert attempt.task.state == "dead"
        assert "24-bit BMP" in (attempt.error or "")


def contacts(number: int, *, broken: bool = False) -> BytesIO:
    """A CSV file of contacts."""
    lines = ["name,email", *(f"N{item},{item}@shop.example" for item in range(number))]
    return BytesIO("\n".join([*lines, *(["Nobody,"] if broken else [])]).encode())


class TestUpload:
    def upload(self, app: Recipe, file: BytesIO) -> str:
        """The address of the page that the browser is led to."""
        reply = app.browser.post("/", data={"contacts": (file, "contacts.csv")})
        assert reply.status_code == 303
        return reply.location

    def progress(self, app: Recipe, page: str) -> Any:
        """What the page's script is told, at the address that the page has for it."""
        [url] = re.findall(r'data-url="([^"]+)"', app.browser.get(page).text)
        return app.browser.get(url).json

    def test_the_page_follows_the_import_to_its_end(
        self, open_recipe: Open, tmp_path: Path
    ) -> None:
        """By the address that its script asks, until it can show the result."""
        app = open_recipe("upload/app", UPLOADS=tmp_path)
        page = self.upload(app, contacts(250))
        before = self.progress(app, page)
        assert (before["done"], before["total"], before["finished"]) == (0, None, False)
        app.taskqueue.run_all()
        assert "succeeded: 250 contacts." in app.browser.get(page).text
        assert len(app.rows("Contact")) == 250

    def test_only_its_own_visitor_sees_an_import(self, open_recipe: Open, tmp_path: Path) -> None:
        """Everybody else is led to the form."""
        app = open_recipe("upload/app", UPLOADS=tmp_path)
        page = self.upload(app, contacts(1))
        assert app.browser.get(page).status_code == 200
        assert app.browser.application.test_client().get(page).location == "/"

    def test_an_import_that_crashes_goes_on_where_it_was(
        self, open_recipe: Open, tmp_path: Path
    ) -> None:
        """Each contact is there once."""
        app = open_recipe("upload/app", UPLOADS=tmp_path)
        self.upload(app, contacts(250))
        with app.taskqueue.chaos(crash=True):
            app.taskqueue.run_due()
        app.taskqueue.run_all()
        assert len({row.email for row in app.rows("Contact")}) == 250
        assert len(app.rows("Contact")) == 250

    def test_a_broken_row_is_shown_to_whoever_waits(
        self, open_recipe: Open, tmp_path: Path
    ) -> None:
        """What came before it stays, and the page says which row it is."""
        app = open_recipe("upload/app", UPLOADS=tmp_path)
        page = self.upload(app, contacts(150, broken=True))
        app.taskqueue.run_all()
        shown = app.browser.get(page).text
        assert "dead: 100 contacts." in shown
        assert "row 151 has no email" in shown


class TestApi:
    def test_the_api_is_asked_no_faster_than_it_allows(self, open_recipe: Open) -> None:
        """Sixty a minute: the starts lie a second apart, as close as the queue's tolerance."""
        with receiver() as api:
            api.answer = lambda: Response('{"latitude": 52.5, "longitude": 13.4}')
            app = open_recipe("api/app", GEOCODER_URL=f"{api.url}/search")
            app.browser.post("/", data={"addresses": "Alex 1\nAlex 2\nAlex 3\nAlex 4"})
            assert len(app.taskqueue.advance("10s", run=True)) == 4
            starts = [task.first_tried_at for task in app.taskqueue.tasks()]
            assert (max(starts) - min(starts)).total_seconds() >= 2.5
            assert app.browser.get("/").text.count("52.5, 13.4") == 4

    def test_an_api_that_asks_for_a_pause_gets_it(self, open_recipe: Open) -> None:
        """The task waits as long as the reply said, and then succeeds."""
        with receiver() as api:
            replies = [
                Response(status=429, headers={"Retry-After": "30"}),
                Response('{"latitude": 52.5, "longitude": 13.4}'),
            ]
            api.answer = lambda: replies.pop(0)
            app = open_recipe("api/app", GEOCODER_URL=f"{api.url}/search")
            app.browser.post("/", data={"addresses": "Alex 1"})
            [refused] = app.taskqueue.run_due()
            assert refused.retry_in is not None
            assert 30 <= refused.retry_in <= 31
            assert [one.ok for one in app.taskqueue.advance("1m", run=True)] == [True]
            assert len(api.got) == 2

    def test_an_address_that_the_api_refuses_is_not_sent_again(self, open_recipe: Open) -> None:
        """A 400 stays one."""
        with receiver(400) as api:
            app = open_recipe("api/app", GEOCODER_URL=f"{api.url}/search")
            app.browser.post("/", data={"addresses": "???"})
            [refused] = app.taskqueue.run_due()
            assert refused.task.state == "dead"


class TestWebhooks:
    def subscribed(self, open_recipe: Open, url: str) -> Recipe:
        """A shop of which ``url`` is told; its deliveries really go out."""
        shop = open_recipe(
            "webhooks/sender", network=True, TASKQUEUE_ALLOWED_HOSTS=[url.removeprefix("http://")]
        )
        reply = shop.browser.post("/subscribers", data={"url": f"{url}/hooks/orders"})
        assert reply.status_code == 201
        self.secret = reply.json["secret"]
        return shop

    def test_an_order_reaches_the_warehouse(self, open_recipe: Open) -> None:
        """From one app to the other, signed, over HTTP, after a ping that it takes as such."""
        warehouse = open_recipe("webhooks/receiver")
        with served(warehouse.app) as url:
            shop = self.subscribed(open_recipe, url)
            warehouse.app.config["WEBHOOK_SECRET"] = self.secret
            shop.browser.post("/orders", data={"product": "a book"})
            with shop.app.app_context():
                assert shop.tasks.drain() == 2
                assert {task.state for task in shop.tasks.find()} == {"succeeded"}
        assert warehouse.taskqueue.run_all().ok
        assert [parcel.order for parcel in warehouse.rows("Parcel")] == [1]

    def test_a_webhook_that_comes_twice_makes_one_parcel(self, open_recipe: Open) -> None:
        """Before its task has run, and after; a forged one makes none."""
        with receiver() as host:
            shop = self.subscribed(open_recipe, host.url)
            shop.browser.post("/orders", data={"product": "a book"})
            with shop.app.app_context():
                shop.tasks.drain()
            headers, body = next(one for one in host.got if b"order.placed" in one[1])
        warehouse = open_recipe("webhooks/receiver", WEBHOOK_SECRET=self.secret)
        signed = {
            name: headers[name]
            for name in headers
            if name.startswith("webhook-") or name == "content-type"
        }
        for _ in range(2):
            for _ in range(2):
                reply = warehouse.browser.post("/hooks/orders", data=body, headers=signed)
                assert reply.status_code == 202
            warehouse.taskqueue.run_all()
        forged = warehouse.browser.post("/hooks/orders", data=body + b" ", headers=signed)
        assert forged.status_code == 401
        assert len(warehouse.rows("Parcel")) == 1

    def test_a_subscriber_in_the_network_of_the_shop_is_refused(self, open_recipe: Open) -> None:
        """Nobody makes the shop call its neighbours; the reply says why."""
        shop = open_recipe("webhooks/sender")
        for url in ("http://127.0.0.1/hook", "http://10.0.0.1/hook", "no URL"):
            refused = shop.browser.post("/subscribers", data={"url": url})
            assert refused.status_code == 400
            assert refused.json["error"]
        assert shop.rows("Subscriber") == []


class TestReport:
    def test_each_night_has_its_report(self, open_recipe: Open) -> None:
        """Of the day before, with what was sold then."""
        shop = open_recipe("report/app")
        shop.browser.post("/", data={"cents": "1250"})
        shop.browser.post("/", data={"cents": "750"})
        assert shop.taskqueue.advance("3d", run=True).ok
        reports = shop.rows("Report")
        assert len(reports) == 3
        assert sum(report.sales for report in reports) == 2
        assert "2 sales, 20.00 €" in shop.browser.get("/").text

    def test_a_report_that_is_made_twice_is_the_same(self, open_recipe: Open) -> None:
        """One row a day, whatever happens at night."""
        shop = open_recipe("report/app")
        shop.tasks.get_schedule("nightly_report").run_now()
        shop.tasks.get_schedule("nightly_report").run_now()
        shop.taskqueue.run_all()
        assert len(shop.rows("Report")) == 1


class TestBatch:
    def test_the_summary_comes_when_the_last_text_is_counted(self, open_recipe: Open) -> None:
        """A text that fails for good is counted as such, and holds up nothing."""
        app = open_recipe("batch/app")
        page = app.browser.post("/", data={"texts": "one two\n\nthree"}).location
        for task in app.taskqueue.tasks(app.module.count_words):
            assert app.browser.get(page).text == "not finished"
            app.taskqueue.run(task)
        app.taskqueue.run_all()
        assert app.browser.get(page).text == "3 words in 2 texts; 1 failed"


def test_each_recipe_shows_an_app_and_each_app_is_shown() -> None:
    """By its file, so that the code stands in one place."""
    shown = {
        (page.parent / path).resolve()
        for page in RECIPES.glob("*.md")
        for path in re.findall(r"\{literalinclude\} (\S+)", page.read_text(encoding="utf-8"))
    }
    assert shown == {path for path in (ROOT / "examples").glob("*/*") if path.is_file()}


def test_an_example_is_short() -> None:
    """Ninety lines at most."""
    for path in (ROOT / "examples").glob("*/*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len([line for line in lines if line.strip()]) <= 90, path
