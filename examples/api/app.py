"""Places whose coordinates come from an API that allows sixty requests a minute."""

import requests
from flask import Blueprint, Flask, current_app, redirect, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import PermanentFailure, TaskQueue

db = SQLAlchemy()
tasks = TaskQueue(db=db)
pages = Blueprint("pages", __name__)


class Place(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]


@pages.get("/")
def index():
    rows = "".join(
        f"<li>place {place.id}: {place.latitude}, {place.longitude}"
        for place in db.session.scalars(db.select(Place))
    )
    return f"""<form method="post"><textarea name="addresses"></textarea>
        <button>Add</button></form><ul>{rows}</ul>"""


@pages.post("/")
def add_places():
    places = [Place(address=line) for line in request.form["addresses"].splitlines() if line]
    db.session.add_all(places)
    db.session.flush()  # gives them their ids
    tasks.queue("geocoder").add([locate.spec(place.id) for place in places])
    db.session.commit()
    return redirect("/", 303)


@tasks.worker("/tasks/locate", queue="geocoder", deadline=30)
def locate(place_id: int):
    place = db.session.get(Place, place_id)
    url, question = current_app.config["GEOCODER_URL"], {"q": place.address}
    reply = requests.get(url, params=question, timeout=(5, 20))
    if reply.status_code in (429, 503):  # too fast, or down: come back when the API says so
        return "", reply.status_code, {"Retry-After": reply.headers.get("Retry-After", "60")}
    if 400 <= reply.status_code < 500:  # it will never like this address
        raise PermanentFailure(f"the API answered {reply.status_code}")
    reply.raise_for_status()
    found = reply.json()
    place.latitude, place.longitude = found["latitude"], found["longitude"]
    db.session.commit()
    return None


def create_app(config=None):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="change-me-to-something-random",
        SQLALCHEMY_DATABASE_URI="sqlite:///api.db",
        GEOCODER_URL="https://geocoder.example/search",
        TASKQUEUE_QUEUES={"geocoder": {"rate": "60/m", "bucket_size": 1, "max_concurrent": 2}},
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    db.init_app(app)
    tasks.init_app(app)
    app.register_blueprint(pages)
    with app.app_context():
        db.create_all()
    return app
