"""A word count: each text is a task, and the last one to end lets the total be made."""

from flask import Blueprint, Flask, redirect, request, url_for
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import PermanentFailure, TaskQueue, current_task

db = SQLAlchemy()
tasks = TaskQueue(db=db)
pages = Blueprint("pages", __name__)


class Count(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    summary: Mapped[str] = mapped_column(default="not finished")


class Text(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    count_id: Mapped[int] = mapped_column(db.ForeignKey(Count.id))
    text: Mapped[str]
    words: Mapped[int | None]


@pages.get("/")
def index():
    return '<form method="post"><textarea name="texts"></textarea><button>Count</button></form>'


@pages.post("/")
def start():
    count = Count()
    db.session.add(count)
    db.session.flush()  # gives it its id
    texts = [Text(count_id=count.id, text=line) for line in request.form["texts"].splitlines()]
    db.session.add_all(texts)
    db.session.flush()
    tasks.batch(
        [count_words.spec(text.id) for text in texts],
        on_finish=collect.spec(count.id),
    )
    db.session.commit()  # the texts, their tasks and the callback, or nothing
    return redirect(url_for("pages.show", count_id=count.id), 303)


@pages.get("/counts/<int:count_id>")
def show(count_id):
    return db.get_or_404(Count, count_id).summary


@tasks.task(transactional=True)
def count_words(text_id: int):
    text = db.session.get(Text, text_id)
    if not text.text.strip():
        raise PermanentFailure("the text is empty")
    text.words = len(text.text.split())


@tasks.task(transactional=True)
def collect(count_id: int):
    batch = tasks.get_batch(current_task.batch_id)
    words = db.session.scalar(
        db.select(db.func.coalesce(db.func.sum(Text.words), 0)).where(Text.count_id == count_id)
    )
    count = db.session.get(Count, count_id)
    count.summary = f"{words} words in {batch.succeeded} texts; {batch.dead} failed"


def create_app(config=None):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="change-me-to-something-random",
        SQLALCHEMY_DATABASE_URI="sqlite:///batch.db",
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    db.init_app(app)
    tasks.init_app(app)
    app.register_blueprint(pages)
    with app.app_context():
        db.create_all()
    return app
