"""The files of docs/deploy: what can be said of them without starting anything."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from flask_taskqueue import Settings
from flask_taskqueue.cli import taskqueue

DEPLOY = Path(__file__).parents[1] / "docs/deploy"
BIN = Path(sys.executable).parent

# The supervisor waits for the grace period and five seconds more before it kills.
LEAST = Settings().grace_period + 5


def text(name: str) -> str:
    """A file."""
    return (DEPLOY / name).read_text(encoding="utf-8")


def is_ours(command: Any) -> bool:
    """Whether a command, a text or a list of words, is one of flask taskqueue's."""
    words = command.split() if isinstance(command, str) else list(map(str, command))
    return words[0].endswith("flask") and words[words.index("taskqueue") + 1] in taskqueue.commands


def assert_checks(words: list[str]) -> None:
    """A health check is a command of ours, or asks a path that the application has by default."""
    for path in re.findall(r"/taskqueue/[a-z/]+", " ".join(words)):
        assert path in {
            f"{Settings().health_url}/{name}" for name in ("live", "ready", "dispatcher")
        }
        return
    assert not words or is_ours(words)


def seconds(duration: str) -> float:
    """A duration of a compose file."""
    return float(duration.removesuffix("s"))


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each container of the Kubernetes file, with the pod that it is in."""
    for document in yaml.safe_load_all(text("kubernetes.yaml")):
        if document["kind"] != "Service":
            pod = document["spec"]["template"]["spec"]
            for container in pod["containers"]:
                yield container, pod


def test_each_file_is_shown_in_a_page() -> None:
    """Included in it, or linked, so that what a reader copies is what is tested."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DEPLOY.parent.glob("*.md"))
    for file in DEPLOY.iterdir():
        assert f"deploy/{file.name}" in pages, file.name


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda unit: unit.name)
def test_a_unit_is_right_and_leaves_time_to_stop(unit: Path, tmp_path: Path) -> None:
    """systemd has no complaint, the main process alone gets the signal, and nothing is killed
    within the grace period.
    """
    found = ConfigParser(strict=False, interpolation=None)
    found.read(unit)
    assert found["Service"]["KillMode"] == "mixed"
    assert float(found["Service"]["TimeoutStopSec"]) > LEAST
    if shutil.which("systemd-analyze"):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/srv/guests/.venv/bin", str(BIN)))
        verified = subprocess.run(
            ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
        )
        assert (verified.returncode, verified.stderr) == (0, "")


def test_the_compose_file_is_right() -> None:
    """Every command and health check is one of ours, every dependency is there, and there is
    time to stop.
    """
    services = yaml.safe_load(text("compose.yaml"))["services"]
    ours = {name: service for name, service in services.items() if "build" in service}
    for service in ours.values():
        assert seconds(service["stop_grace_period"]) > LEAST
        assert "command" not in service or is_ours(service["command"])
        assert_checks(service.get("healthcheck", {}).get("test", [])[1:])
        assert service["depends_on"].keys() <= services.keys()
    assert ours["web"]["environment"]["FLASK_TASKQUEUE_DISPATCHER"] == "off"
    assert ours["web"]["environment"].keys() > ours["dispatcher"]["environment"].keys()


def test_the_kubernetes_file_is_right() -> None:
    """Every command and probe is one of ours, and pods that attempt or serve have time to stop."""
    for container, pod in containers():
        if "command" in container:
            assert is_ours(container["command"])
        for probe in [value for name, value in container.items() if name.endswith("Probe")]:
            assert_checks(
                probe["exec"]["command"] if "exec" in probe else [probe["httpGet"]["path"]]
            )
        assert (
            pod.get("restartPolicy") == "OnFailure" or pod["terminationGracePeriodSeconds"] > LEAST
        )


def test_the_dockerfile_starts_without_a_shell() -> None:
    """A shell in between would keep the signal to itself."""
    command = re.search(r"^CMD (.*)$", text("Dockerfile"), re.MULTILINE)
    assert command is not None
    assert json.loads(command[1])[0] == "gunicorn"


def test_the_procfile_names_commands_that_exist() -> None:
    """One for the release, one for the web, one for the dispatcher."""
    lines = dict(line.split(": ", 1) for line in text("Procfile").splitlines())
    assert is_ours(lines["release"])
    assert is_ours(lines["worker"])
    assert "FLASK_TASKQUEUE_DISPATCHER=off gunicorn " in lines["web"]


def test_gunicorn_and_uwsgi_leave_time_to_stop() -> None:
    """And gunicorn kills no worker within the deadline of a task."""
    gunicorn = runpy.run_path(str(DEPLOY / "gunicorn.conf.py"))
    assert gunicorn["graceful_timeout"] > LEAST
    assert gunicorn["timeout"] > Settings().deadline
    uwsgi = ConfigParser()
    uwsgi.read(DEPLOY / "uwsgi.ini")
    assert float(uwsgi["uwsgi"]["worker-reload-mercy"]) > LEAST
    assert uwsgi["uwsgi"]["enable-threads"] == "true"


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not there (Debian's package prometheus has it)",
)
def test_the_alert_rules_fire_when_they_are_to() -> None:
    """By Prometheus's own tool, on series made up: each rule with what sets it off, and what
    does not.
    """
    found = subprocess.run(
        ["promtool", "test", "rules", "tests/alerts.yml"],
        cwd=DEPLOY.parents[1],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
