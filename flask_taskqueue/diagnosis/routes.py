"""Worker routes, and whether deliveries reach them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.routing import BuildError, Rule

from ..core.diagnosis.facts import Finding
from ..core.diagnosis.ping import judge_ping
from ..core.errors import ConfigurationError, TablesMissingError, TransientError
from ..runtime import Runtime
from ..web.rules import worker_rules
from ..web.worker import Worker

_SAMPLES = ("1", "1.0", "ping", "00000000-0000-4000-8000-000000000000")


def check(runtime: Runtime) -> Iterator[Finding]:
    """Ping each worker route in process, and one over the network with the http transport."""
    app = runtime.app
    rules = list(worker_rules(app))
    for rule, worker in rules:
        yield from _declared(rule, worker)
    try:
        yield from _pinged(runtime, [rule for rule, _ in rules], "wsgi")
        if runtime.settings.transport == "http":
            yield from _pinged(
                runtime, [rule for rule, _ in rules if not rule.arguments][:1], "http"
            )
    except (TransientError, TablesMissingError):
        return  # the check of the database reports it
    except ConfigurationError as error:
        if str(error) in map(str, runtime.store.database.findings()):
            return
        anchor = "no-secret" if "SECRET" in str(error) else "not-found"
        yield Finding(
            "error",
            str(error).partition(":")[0],
            str(error).partition(":")[2].strip(),
            f"troubleshooting#{anchor}",
        )


def _declared(rule: Rule, worker: Worker[..., Any]) -> Iterator[Finding]:
    if "POST" not in (rule.methods or ()):
        methods = ", ".join(sorted(set(rule.methods or ()) - {"HEAD"}))
        text = (
            f"{rule.rule} answers {methods}, not POST, which is what a task sends unless its "
            "method is given"
        )
        yield Finding(
            "warning",
            text,
            "add POST to its methods, or give each of its tasks a method",
            "troubleshooting#not-found",
        )
    if worker.is_async and not _has_asgiref():
        text = f"{rule.rule} has an async handler, and Flask cannot run it without its async extra"
        yield Finding("error", text, "pip install 'flask[async]'", "troubleshooting#async")


def _has_asgiref() -> bool:
    try:
        return importlib.util.find_spec("asgiref") is not None
    except ValueError:  # a module of that name without a spec
        return False


def _pinged(runtime: Runtime, rules: list[Rule], transport: str) -> Iterator[Finding]:
    _, attempts = runtime.dispatcher(
        transport=transport, base_url="http://localhost" if transport == "wsgi" else None
    )
    try:
        for rule in rules:
            path = sample_path(runtime.app, rule)
            method = (
                "POST" if "POST" in (rule.methods or ()) else sorted(rule.methods or {"POST"})[0]
            )
            if path is None:
                continue
            place = rule.rule if transport == "wsgi" else f"{rule.rule}, by HTTP,"
            yield judge_ping(place, *attempts.ping(method, path), certain=not rule.arguments)
    finally:
        attempts.close()


def sample_path(app: Flask, rule: Rule) -> str | None:
    """Make up a path that a rule answers; None if there is none."""
    values: dict[str, Any] = {}
    for name, converter in rule._converters.items():
        samples = [text for text in _SAMPLES if re.fullmatch(converter.regex, text)]
        choices = list(getattr(converter, "items", ()))
        if not samples and not choices:
            return None
        values[name] = choices[0] if choices else converter.to_python(samples[0])
    try:
        return urlsplit(
            app.url_map.bind("localhost").build(
                rule.endpoint, values, sorted(rule.methods or {"POST"})[0]
            )
        ).path
    except BuildError:
        return None
