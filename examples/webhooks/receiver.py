"""A warehouse that receives webhooks, and packs a parcel for each order."""

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import TaskQueue

db = SQLAlchemy()
tasks = TaskQueue(db=db)


class Parcel(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[int]


@tasks.webhook(
    "/hooks/orders", secret=lambda: current_app.config["WEBHOOK_SECRET"], transactional=True
)
def pack(type: str, order: int | None):
    if type == "order.placed":
        db.session.add(Parcel(order=order))


def create_app(config=None):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="change-me-to-something-random-too",
        SQLALCHEMY_DATABASE_URI="sqlite:///receiver.db",
        WEBHOOK_SECRET="whsec_YXNrIHRoZSBzZW5kZXIgZm9yIGl0",  # yours is what the sender tells you
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    db.init_app(app)
    tasks.init_app(app)
    with app.app_context():
        db.create_all()
    return app
