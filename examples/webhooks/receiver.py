"""A warehouse that receives webhooks: verify, store, answer, and only then work."""

from flask import Blueprint, Flask, current_app, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column
from standardwebhooks import Webhook, WebhookVerificationError

from flask_taskqueue import TaskAlreadyExistsError, TaskQueue, TombstonedTaskError

db = SQLAlchemy()
tasks = TaskQueue(db=db)
pages = Blueprint("pages", __name__)


class Parcel(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[int]


@pages.post("/hooks/orders")
def receive():
    try:
        event = Webhook(current_app.config["WEBHOOK_SECRET"]).verify(
            request.get_data(), request.headers
        )
    except WebhookVerificationError:
        return "", 401
    if event["type"] != "order.placed":
        return "", 204
    try:
        pack.options(name=f"order-{request.headers['webhook-id']}").enqueue(event["order"])
    except (TaskAlreadyExistsError, TombstonedTaskError):
        pass  # they sent it again, because our answer was lost
    return "", 202


@tasks.task(queue="hooks", transactional=True)
def pack(order: int):
    db.session.add(Parcel(order=order))


def create_app(config=None):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="change-me-to-something-random-too",
        SQLALCHEMY_DATABASE_URI="sqlite:///receiver.db",
        WEBHOOK_SECRET="whsec_YXNrIHRoZSBzZW5kZXIgZm9yIGl0",  # yours is what the sender tells you
        TASKQUEUE_QUEUES={"hooks": {"tombstone_ttl": "7d"}},  # remember what came for a week
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    db.init_app(app)
    tasks.init_app(app)
    app.register_blueprint(pages)
    with app.app_context():
        db.create_all()
    return app
