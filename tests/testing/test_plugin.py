"""The pytest plugin and the unittest mixin, in runs of pytest of their own; and the page that
shows them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH on which the package is installed, as its metadata says: with its entry
    point.
    """
    directory = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(directory)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return os.pathsep.join([str(directory), str(ROOT)])


def run_pytest(directory: Path, installed: str) -> str:
    """What pytest tells of the tests in a directory, all warnings being errors."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            str(directory),
        ],
        env=os.environ | {"PYTHONPATH": installed},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.stdout + done.stderr


APP = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.pool import StaticPool
from flask_taskqueue import TaskQueue

def create_app(url="sqlite://"):
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="a secret for tests", SQLALCHEMY_DATABASE_URI=url)
    db = SQLAlchemy(app)
    tasks = TaskQueue(app, db)
    ran = app.ran = []

    @app.post("/signup")
    def signup():
        tasks.add("/worker/mail", {"user": 1})
        return "thanks"

    @tasks.worker("/worker/mail")
    def mail(user: int):
        ran.append(user)

    return app
"""

TESTS = """
import unittest
import pytest
from app import create_app
from flask_taskqueue.testing import TaskQueueMixin

@pytest.fixture(scope="module", params=["sqlite://", "file"])
def app(request, tmp_path_factory):
    url = request.param
    if url == "file":
        url = f"sqlite:///{tmp_path_factory.mktemp('db') / 'test.db'}"
    app = create_app(url)
    yield app
    with app.app_context():
        app.extensions["sqlalchemy"].engine.dispose()

@pytest.mark.parametrize("number", [1, 2])
def test_signup(app, taskqueue, number):
    app.test_client().post("/signup")
    task = taskqueue.assert_enqueued("/worker/mail", params={"user": "1"}, count=1)
    assert taskqueue.run(task).status == 204

def test_without(app):
    app.test_client().post("/signup")

class MailTest(TaskQueueMixin, unittest.TestCase):
    def setUp(self):
        self.app = create_app()
        super().setUp()

    def test_signup(self):
        self.app.test_client().post("/signup")
        self.assertTrue(self.taskqueue.run_all().ok)
        self.taskqueue.assert_enqueued("/worker/mail", count=1)
        with self.app.app_context():
            self.app.extensions["sqlalchemy"].engine.dispose()
"""


@pytest.mark.slow
def test_the_fixture_is_there_and_resets_between_tests(tmp_path: Path, installed: str) -> None:
    """Nothing has to be imported; with an application made once, in memory and on a file, and
    with unittest.
    """
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "test_it.py").write_text(TESTS)
    assert "7 passed" in (told := run_pytest(tmp_path, installed)), told


@pytest.mark.slow
def test_the_package_is_loaded_only_where_the_fixture_is_used(
    tmp_path: Path, installed: str
) -> None:
    """A run of pytest that does not need it pays nothing, and coverage sees the imports."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it(): assert not {'flask_taskqueue', 'flask', 'sqlalchemy'} & set(sys.modules)\n"
    )
    assert "1 passed" in (told := run_pytest(tmp_path, installed)), told


@pytest.mark.slow
def test_the_page_about_testing_runs(tmp_path: Path, installed: str) -> None:
    """Its blocks that have a file name are a project whose tests pass."""
    page = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL)
    assert {name for name, _ in blocks} >= {"shop.py", "conftest.py", "test_shop.py"}
    for name, text in blocks:
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write(text)
    told = run_pytest(tmp_path, installed)
    passed = re.search(r"^(\d+) passed", told, re.MULTILINE)
    assert passed is not None, told
    assert int(passed[1]) >= 8
