"""A shop that tells its subscribers of each order, by signed webhooks."""

from flask import Blueprint, Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import InvalidUrlError, TaskQueue, TaskSpec

db = SQLAlchemy()
tasks = TaskQueue(db=db)
pages = Blueprint("pages", __name__)


class Subscriber(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str]


class Order(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    product: Mapped[str]


@pages.post("/subscribers")
def subscribe():
    url = request.form["url"]
    db.session.add(Subscriber(url=url))
    try:
        tasks.queue("webhooks").add(url, json={"type": "ping"})
    except InvalidUrlError as error:  # no URL, or of a host that tasks may not go to
        db.session.rollback()
        return {"error": str(error)}, 400
    db.session.commit()
    return {"secret": tasks.webhook_secret(url)}, 201


@pages.post("/orders")
def place_order():
    order = Order(product=request.form["product"])
    db.session.add(order)
    db.session.flush()  # gives it its id
    event = {"type": "order.placed", "order": order.id, "product": order.product}
    subscribers = db.session.scalars(db.select(Subscriber))
    tasks.queue("webhooks").add([TaskSpec(one.url, json=event) for one in subscribers])
    db.session.commit()  # the order and its webhooks, or neither
    return {"order": order.id}, 201


def create_app(config=None):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="change-me-to-something-random",
        SQLALCHEMY_DATABASE_URI="sqlite:///sender.db",
        TASKQUEUE_TARGETS="public",  # any public host, but none of your own network
        TASKQUEUE_QUEUES={
            "webhooks": {
                "deadline": 10,
                "retry": {"min_backoff_seconds": 5, "task_age_limit": "3d", "jitter": True},
            }
        },
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    db.init_app(app)
    tasks.init_app(app)
    app.register_blueprint(pages)
    with app.app_context():
        db.create_all()
    return app
