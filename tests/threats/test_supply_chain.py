"""Threat: what is installed is not what is in the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("flask_taskqueue", "setup.py", "pyproject.toml", "README.md", "LICENSE")
EPOCH = "1700000000"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two wheels, each built from a copy of the sources in a folder of its own."""
    return [build(tmp_path_factory.mktemp(f"build{number}")) for number in range(2)]


def build(folder: Path) -> Path:
    """Build a wheel, with nothing from any index."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    command = [
        sys.executable,
        "-c",
        "import setuptools.build_meta as backend; print(backend.build_wheel('.'))",
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    built = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return folder / built.stdout.splitlines()[-1]


class TestSupplyChain:
    @pytest.mark.slow
    def test_two_builds_are_the_same(self, wheels: list[Path]) -> None:
        """Byte for byte, so that anybody can see whether a release was built from these sources."""
        first, second = (wheel.read_bytes() for wheel in wheels)
        assert first == second

    def test_the_wheel_holds_the_package_and_nothing_else(self, wheels: list[Path]) -> None:
        """Every module, template and static file, py.typed and the metadata; no file is put
        anywhere else, and none is compiled.
        """
        names = zipfile.ZipFile(wheels[0]).namelist()
        package = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "flask_taskqueue").rglob("*")
            if path.is_file()
        }
        package = {name for name in package if "__pycache__" not in name}
        assert {name for name in names if name.startswith("flask_taskqueue/")} == package
        assert {name.partition("/")[0].partition("-")[0] for name in names} == {"flask_taskqueue"}
        assert wheels[0].name.endswith("-py3-none-any.whl")

    def test_what_it_needs_comes_from_the_index_by_name(self, wheels: list[Path]) -> None:
        """With a least version that is known to work, and none that is known not to; no
        address, no file.
        """
        archive = zipfile.ZipFile(wheels[0])
        metadata = next(
            archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA")
        )
        needed = [
            line.removeprefix("Requires-Dist: ")
            for line in metadata.splitlines()
            if line.startswith("Requires-Dist: ")
        ]
        own = [item for item in needed if "extra ==" not in item]
        assert own
        assert all(re.fullmatch(r"[\w-]+(<[\d.]+,)?>=[\d.]+", item) for item in own), own
        assert not any("@" in item or "://" in item for item in needed)

    @pytest.mark.slow
    def test_importing_it_opens_no_connection(self) -> None:
        """And starts neither a thread nor a process."""
        code = (
            "import sys, threading; seen = []; bad = ('socket.connect', 'subprocess.Popen', "
            "'os.fork'); "
            "sys.addaudithook(lambda event, _: seen.append(event) if event in bad else None); "
            "import flask_taskqueue; print(seen, threading.active_count())"
        )
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == "[] 1"
