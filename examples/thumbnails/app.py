"""A gallery that shrinks uploaded pictures in the background."""

import os
import struct
from pathlib import Path
from uuid import UUID, uuid4

from flask import Blueprint, Flask, current_app, redirect, request, send_from_directory

from flask_taskqueue import PermanentFailure, TaskQueue

tasks = TaskQueue()
pages = Blueprint("pages", __name__)


@pages.get("/")
def index():
    names = sorted(path.name for path in folder().glob("*-small.bmp"))
    images = "".join(f'<img src="/pictures/{name}">' for name in names)
    return f"""<form method="post" enctype="multipart/form-data">
        <input type="file" name="picture" accept=".bmp"><button>Upload</button>
        </form>{images}"""


@pages.post("/")
def upload():
    picture = uuid4()
    request.files["picture"].save(folder() / f"{picture}.bmp")
    make_thumbnail.enqueue(picture)  # the file's name; the file itself would be too large
    return redirect("/", 303)


@pages.get("/pictures/<name>")
def show(name):
    return send_from_directory(folder(), name)


@tasks.task(deadline=120)
def make_thumbnail(picture: UUID):
    original = folder() / f"{picture}.bmp"
    small = shrink(original.read_bytes())
    unfinished = folder() / f"{picture}.tmp"
    unfinished.write_bytes(small)
    os.replace(unfinished, folder() / f"{picture}-small.bmp")  # all of it appears, or nothing


def shrink(picture: bytes, by: int = 4) -> bytes:
    """Keep every fourth pixel of a 24-bit BMP."""
    if picture[:2] != b"BM" or len(picture) < 54 or picture[28] != 24:
        raise PermanentFailure("this is not a 24-bit BMP")
    start, _, width, height = struct.unpack_from("<IIii", picture, 10)
    row, new_width, new_height = (width * 3 + 3) // 4 * 4, width // by, height // by
    pixels = b"".join(
        b"".join(
            picture[at : at + 3]
            for at in range(start + y * by * row, start + y * by * row + new_width * by * 3, by * 3)
        )
        + bytes(-new_width * 3 % 4)
        for y in range(new_height)
    )
    size = (54 + len(pixels), 0, 54, 40, new_width, new_height, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", *size) + pixels


def folder() -> Path:
    return Path(current_app.config["PICTURES"])


def create_app(config=None):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="change-me-to-something-random",
        PICTURES=Path(app.instance_path) / "pictures",
    )
    app.config.from_prefixed_env()
    app.config.update(config or {})
    Path(app.config["PICTURES"]).mkdir(parents=True, exist_ok=True)
    tasks.init_app(app)
    app.register_blueprint(pages)
    return app
