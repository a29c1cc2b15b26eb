"""A shop that confirms each order by mail."""

import smtplib
from datetime import UTC, datetime
from email.message import EmailMessage

from flask import Blueprint, Flask, current_app, redirect, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import PermanentFailure, TaskQueue, current_task

db = SQLAlchemy()
tasks = TaskQueue(db=db)
pages = Blueprint("pages", __name__)


class Order(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    mailed_at: Mapped[datetime | None]


@pages.get("/")
def index():
    rows = "".join(
        f"<li>order {order.id}: {'mailed' if order.mailed_at else 'not mailed yet'}"
        for order in db.session.scalars(db.select(Order))
    )
    return f'<form method="post"><input name="email"><button>Order</button></form><ul>{rows}</ul>'


@pages.post("/")
def place_order():
    order = Order(email=request.form["email"])
    db.session.add(order)
    db.session.flush()  # gives it its id
    confirm.enqueue(order.id)
    db.session.commit()  # the order and the task, or neither
    return redirect("/", 303)


@tasks.task(retry={"min_backoff_seconds": 10, "task_age_limit": "2d"})
def confirm(order_id: int):
    order = db.session.get(Order, order_id)
    if order.mailed_at:  # an earlier attempt got this far
        return
    message = EmailMessage()
    message["From"] = current_app.config["MAIL_FROM"]
    message["To"] = order.email
    message["Subject"] = f"Your order {order.id}"
    message["Message-ID"] = f"<{current_task.id}@shop.example>"  # the same at every attempt
    message.set_content("Thank you for your order.")
    send(message)
    order.mailed_at = datetime.now(UTC)
    db.session.commit()


def send(message):
    host, port = current_app.config["MAIL_SERVER"], current_app.config["MAIL_PORT"]
    try:
        with smtplib.SMTP(host, port, timeout=10) as server:
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        [(code, reason)] = error.recipients.values()
        if code >= 500:  # no such mailbox: another attempt would not help
            raise PermanentFailure(reason.decode(errors="replace")) from error
        raise


def create_app(config=None):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="change-me-to-something-random",
        SQLALCHEMY_DATABASE_URI="sqlite:///mail.db",
        MAIL_SERVER="127.0.0.1",
        MAIL_PORT=8025,
        MAIL_FROM="shop@shop.example",
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    db.init_app(app)
    tasks.init_app(app)
    app.register_blueprint(pages)
    with app.app_context():
        db.create_all()
    return app
