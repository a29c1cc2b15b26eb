"""An import of contacts from a CSV file, with a progress bar in the browser."""

import csv
from pathlib import Path

from flask import (
    Blueprint,
    Flask,
    current_app,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_taskqueue import PermanentFailure, TaskQueue, UnknownTaskError, current_task

db = SQLAlchemy()
tasks = TaskQueue(db=db)
pages = Blueprint("pages", __name__)
AT_A_TIME = 100


class Contact(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


class Upload(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    rows_done: Mapped[int] = mapped_column(default=0)


@pages.get("/")
def index():
    return """<form method="post" enctype="multipart/form-data">
        <input type="file" name="contacts" accept=".csv"><button>Import</button></form>"""


@pages.post("/")
def upload():
    new = Upload(rows_done=0)
    db.session.add(new)
    db.session.flush()  # gives it its id
    request.files["contacts"].save(file_of(new.id))
    task = import_contacts.enqueue(new.id)
    db.session.commit()  # the upload and the task, or neither
    session["import"] = task.id  # so that nobody else sees it
    return redirect(url_for("pages.watch"), 303)


@pages.get("/import")
def watch():
    try:
        task = tasks.get(session.get("import", ""))
    except UnknownTaskError:
        return redirect(url_for("pages.index"))
    return render_template("progress.html", task=task, url=tasks.progress_url(task))


@tasks.task(deadline="1h")
def import_contacts(upload_id: int):
    with file_of(upload_id).open(newline="") as file:
        rows = list(csv.DictReader(file))
    while True:
        # Locked, and read anew: an attempt goes on where the one before it stopped.
        upload = db.session.get(Upload, upload_id, with_for_update=True)
        chunk = rows[upload.rows_done : upload.rows_done + AT_A_TIME]
        if not chunk:
            return
        for number, row in enumerate(chunk, upload.rows_done + 1):
            if not row.get("email"):
                raise PermanentFailure(f"row {number} has no email")
            db.session.add(Contact(email=row["email"]))
        upload.rows_done += len(chunk)
        done = upload.rows_done
        db.session.commit()  # the contacts and the position, or neither
        current_task.progress(done, len(rows))


def file_of(upload_id: int) -> Path:
    return Path(current_app.config["UPLOADS"]) / f"{upload_id}.csv"


def create_app(config=None):
    app = Flask(__name__, template_folder=".")
    app.config.update(
        SECRET_KEY="change-me-to-something-random",
        SQLALCHEMY_DATABASE_URI="sqlite:///upload.db",
        UPLOADS=app.instance_path,
        TASKQUEUE_PROGRESS=True,  # opens the route that tasks.progress_url() leads to
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    Path(app.config["UPLOADS"]).mkdir(parents=True, exist_ok=True)
    db.init_app(app)
    tasks.init_app(app)
    app.register_blueprint(pages)
    with app.app_context():
        db.create_all()
    return app
