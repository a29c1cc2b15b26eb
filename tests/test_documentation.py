"""What is public is documented."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml
from blinker import NamedSignal

import flask_taskqueue
from benchmarks import chart
from flask_taskqueue import QueueSettings, Settings, TaskOptions
from flask_taskqueue.cli import taskqueue
from flask_taskqueue.core import signals
from flask_taskqueue.core.delivery.delivery import FAMILIES, delivery_headers
from flask_taskqueue.core.metrics import METRICS, Metric
from flask_taskqueue.core.states import Record
from flask_taskqueue.dashboard.access import PERMISSIONS

ROOT = Path(__file__).parents[1]
DOCS = "\n".join(
    path.read_text(encoding="utf-8") for path in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
)
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("docs/deploy/*")),
]
ERRORS = flask_taskqueue.core.errors.__doc__ or ""


def import_from(path: Path) -> ModuleType:
    """A module that is in no package."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """The commands of a group and of those below it, by their full names."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


@pytest.mark.parametrize(("name", "command"), sorted(commands(taskqueue), key=lambda one: one[0]))
def test_every_command_is_documented(name: str, command: click.Command) -> None:
    """With each of its options."""
    assert f"flask taskqueue {name}" in DOCS
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.opts[0] in DOCS


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_command_that_is_shown_exists(page: Path) -> None:
    """With the options it is shown with, in a page or in a file for deployment."""
    for shown in re.findall(
        r"\bflask (?:[^\n`]*? )?taskqueue ([^\n`|#;]+)", page.read_text(encoding="utf-8")
    ):
        words = (
            shown.replace("[", " ").replace("]", " ").replace('"', " ").replace(",", " ").split()
        )
        command: click.Command = taskqueue
        while isinstance(command, click.Group) and words and words[0] not in ("…", "..."):
            if command.invoke_without_command and words[0].startswith("-"):
                break
            assert words[0] in command.commands, f"there is no command in {shown!r}"
            command = command.commands[words.pop(0)]
        known = {
            name for option in command.params for name in (*option.opts, *option.secondary_opts)
        } | {"--help"}
        for word in words:
            assert not word.startswith("-") or word == "-" or word.partition("=")[0] in known, (
                f"there is no {word} in {shown!r}"
            )


def test_what_is_generated_is_made_from_the_code() -> None:
    """Every setting, every table with its columns, and the waits that App Engine's
    documentation gives for its example.
    """
    generate = import_from(ROOT / "docs/generate.py")
    assert all(
        f"### `TASKQUEUE_{field.name.upper()}`\n" in generate.settings()
        for field in fields(Settings)
    )
    assert all(f"| `{name}` |" in generate.schema() for name in Record._fields)
    assert all(meaning in generate.schema() for meaning in generate.MEANINGS.values())
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in generate.retry_table().splitlines()[2:]
    ]
    assert [row[2] for row in rows[:7]] == [
        "10 s",
        "20 s",
        "40 s",
        "1.33 min",
        "2.67 min",
        "4 min",
        "5 min",
    ]


def test_each_setting_is_in_one_group_with_an_example_that_changes_it() -> None:
    """No example is refused, and none says what holds anyway."""
    generate = import_from(ROOT / "docs/generate.py")
    names = [field.name for field in fields(Settings)]
    assert sorted(" ".join(generate.GROUPS.values()).split()) == sorted(names)
    assert sorted(generate.EXAMPLES) == sorted(names)
    for name, text in generate.EXAMPLES.items():
        given = Settings.of({f"TASKQUEUE_{name.upper()}": eval(text)})
        assert getattr(given, name) != getattr(Settings(), name), name


@pytest.mark.parametrize("name", ["configuration", "retry", "tables"])
def test_what_is_generated_is_in_its_page(name: str) -> None:
    """As the code makes it now, so that it can be read where the page is not built."""
    generate = import_from(ROOT / "docs/generate.py")
    assert set(generate.parts()) == {"configuration", "retry", "tables"}
    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    assert page == generate.renewed(page, generate.parts()[name]), "run: python docs/generate.py"


def test_the_chart_is_drawn_from_its_data() -> None:
    """And the table of ratios, too."""
    with chart.DATA.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert chart.CHART.read_text(encoding="utf-8") == chart.draw(rows), (
        "run: python -m benchmarks chart"
    )
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    ours = {row["queue"]: float(row["equal work"]) for row in rows}
    for name, rate in ours.items():
        if not name.startswith("Flask-TaskQueue"):
            assert f"| {name} | {ours['Flask-TaskQueue, SQLite'] / rate:.2f} |" in page


@pytest.mark.parametrize("name", sorted(flask_taskqueue.__all__))
def test_every_public_name_is_documented(name: str) -> None:
    """In the pages or, for errors, in the drawing of their tree, which the pages show."""
    assert re.search(rf"\b{name}\b", DOCS + ERRORS) or name in (
        "QueueSettings",
        "__version__",
        "Settings",
    )


def singular(word: str) -> str:
    """A word without the ending of its plural."""
    return re.sub(r"(?<=[^s])s$", "", re.sub(r"(?<=[xh])es$", "", re.sub(r"ies$", "y", word)))


@pytest.mark.parametrize("floor", ["core", "store", "engine"])
def test_every_module_is_named_by_words_that_are_explained(floor: str) -> None:
    """Each word of its name is in the glossary, as a term or as an ordinary word used there."""
    page = (ROOT / "docs/words.md").read_text(encoding="utf-8").lower()
    known = {singular(word) for word in re.findall(r"[a-z]+", page)}
    names = {path.stem for path in (ROOT / "flask_taskqueue" / floor).rglob("*.py")}
    assert len(names) > 10
    assert {
        name
        for name in names - {"__init__"}
        if not all(singular(word) in known for word in name.split("_"))
    } == set()


def test_every_header_is_documented() -> None:
    """Those of a first attempt and those of a retry."""
    record = Record(
        *[
            0 if field in ("eta", "executions") else 2 if field == "attempts" else None
            for field in Record._fields
        ]
    )
    for header in delivery_headers(record._replace(batch_id="one", schedule="one")):
        assert f"`{header}`" in DOCS
    for family in FAMILIES:
        assert f'`"{family}"`' in DOCS


@pytest.mark.parametrize(
    "name", [name for name, var in vars(signals).items() if isinstance(var, NamedSignal)]
)
def test_every_signal_is_documented(name: str) -> None:
    """It is public, and in the table with the arguments that its own words name."""
    signal = getattr(flask_taskqueue, name)
    row = next(
        line
        for line in (ROOT / "docs/signals.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{name}` |")
    )
    assert all(f"`{argument}`" in row for argument in re.findall(r"``(\w+)``", signal.__doc__))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.shown)
def test_every_metric_is_documented(metric: Metric) -> None:
    """In the page about monitoring, with its type and its labels."""
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    row = next(
        line
        for line in page.splitlines()
        if line.startswith(f"| `{metric.shown}` | {metric.kind} |")
    )
    assert all(f"`{label}`" in row for label in metric.labels)


def test_the_dashboard_for_grafana_and_the_alerts_name_metrics_that_exist() -> None:
    """With labels that these have; both files parse."""
    board = json.loads((ROOT / "docs/deploy/grafana.json").read_text(encoding="utf-8"))
    alerts = yaml.safe_load((ROOT / "docs/deploy/alerts.yml").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    assert len(queries) > 15
    known = {
        f"{metric.shown}{suffix}": metric
        for metric in METRICS
        for suffix in (("_bucket",) if metric.kind == "histogram" else ("",))
    }
    for query in queries:
        found = re.findall(r"\b(taskqueue_\w+)(?:\{([^}]*)\})?", query)
        assert found, query
        for name, matchers in found:
            assert name in known, query
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= set(known[name].labels), query


@pytest.mark.parametrize(
    "name", [name for name, value in vars(signals).items() if isinstance(value, NamedSignal)]
)
def test_every_signal_is_documented_and_public(name: str) -> None:
    """In the page about signals."""
    assert f"| `{name}` |" in (ROOT / "docs/signals.md").read_text(encoding="utf-8")
    assert name in flask_taskqueue.__all__


@pytest.mark.parametrize(
    "name", [field.name for field in fields(QueueSettings) if field.name != "name"]
)
def test_every_setting_of_a_queue_is_documented(name: str) -> None:
    """In the page about queues."""
    assert f"`{name}`" in (ROOT / "docs/queues.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(TaskOptions.__annotations__))
def test_every_argument_of_add_is_documented(name: str) -> None:
    """In the page about adding."""
    assert re.search(rf"\b{name}\b", (ROOT / "docs/adding.md").read_text(encoding="utf-8"))


def test_the_places_that_the_code_points_to_exist() -> None:
    """Findings name a page and a label of it; labels are there by name, or are those of
    headings.
    """
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in ROOT.glob("flask_taskqueue/**/*.py")
    )
    for page, label in set(re.findall(r"\"([a-z]+)#([a-z-]+)\"", code)):
        text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert f"({label})=" in text or label in headings, f"{page}#{label}"


def test_few_examples_are_not_run() -> None:
    """And those that are not say why."""
    skipped = [
        line
        for page in PAGES
        for line in re.findall(
            r"^.*skip: (?:next|start).*$", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert all(re.search(r'skip: next "[^"]+"', line) for line in skipped if "`" not in line)
    assert len(skipped) <= 5


def test_what_shows_a_guarantee_exists() -> None:
    """Each test and each file of tests that the page about guarantees names."""
    page = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    for name in re.findall(r"`(test_\w+)`", page):
        assert f"def {name}(" in tests, name
    for path in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", page):
        assert (ROOT / path).exists(), path


def test_the_files_that_the_readme_links_to_exist() -> None:
    """Those of the documentation; Sphinx sees to the links in between."""
    linked = re.findall(r"\]\((docs/[^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(linked) > 10
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_the_readmes_application_is_short() -> None:
    """Twenty lines at most, and it is what a stranger copies."""
    example = re.search(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert example is not None
    compile(example[1], "README.md", "exec")
    assert len([line for line in example[1].splitlines() if line.strip()]) <= 20


def test_every_permission_of_the_dashboard_is_documented() -> None:
    """In the page about it."""
    page = (ROOT / "docs/dashboard.md").read_text(encoding="utf-8")
    for permission in PERMISSIONS:
        assert f"| `{permission}` |" in page


def test_the_table_of_threats_is_that_of_the_tests() -> None:
    """Each class of tests/threats is in it, and each test it names is there."""
    named = set(
        re.findall(r"`([Tt]est_?\w+)`", (ROOT / "docs/security.md").read_text(encoding="utf-8"))
    )
    sources = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py")}
    threats = re.findall(
        r"^class (Test\w+)",
        "\n".join(text for path, text in sources.items() if path.parent.name == "threats"),
        re.MULTILINE,
    )
    assert set(threats) <= named
    assert not {
        one for one in named if not re.search(rf"(class|def) {one}\b", "\n".join(sources.values()))
    }
