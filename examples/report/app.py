"""A shop whose report of yesterday's sales is made every night."""

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from flask import Blueprint, Flask, redirect, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import TaskQueue, current_task

db = SQLAlchemy()
tasks = TaskQueue(db=db)
pages = Blueprint("pages", __name__)
BERLIN = ZoneInfo("Europe/Berlin")


class Sale(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]
    sold_at: Mapped[datetime]  # in Berlin


class Report(db.Model):
    day: Mapped[date] = mapped_column(primary_key=True)
    sales: Mapped[int]
    cents: Mapped[int]


@pages.get("/")
def index():
    reports = db.session.scalars(db.select(Report).order_by(Report.day))
    rows = "".join(f"<li>{one.day}: {one.sales} sales, {one.cents / 100:.2f} €" for one in reports)
    return f'<form method="post"><input name="cents"><button>Sell</button></form><ul>{rows}</ul>'


@pages.post("/")
def sell():
    now = datetime.now(BERLIN).replace(tzinfo=None)
    db.session.add(Sale(cents=int(request.form["cents"]), sold_at=now))
    db.session.commit()
    return redirect("/", 303)


@tasks.cron("every day 03:00", timezone="Europe/Berlin", misfire="all")
@tasks.task(transactional=True)
def nightly_report():
    # The day before the one it was to run on, even if it runs a day late.
    day = current_task.task.eta.astimezone(BERLIN).date() - timedelta(days=1)
    start = datetime.combine(day, time())
    sales, cents = db.session.execute(
        db.select(db.func.count(), db.func.coalesce(db.func.sum(Sale.cents), 0)).where(
            Sale.sold_at >= start, Sale.sold_at < start + timedelta(days=1)
        )
    ).one()
    db.session.merge(Report(day=day, sales=sales, cents=cents))


def create_app(config=None):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="change-me-to-something-random",
        SQLALCHEMY_DATABASE_URI="sqlite:///report.db",
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    db.init_app(app)
    tasks.init_app(app)
    app.register_blueprint(pages)
    with app.app_context():
        db.create_all()
    return app
