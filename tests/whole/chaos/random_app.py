"""The application of random operations: `loop_app` with handlers that do what their tasks say,
and schedules.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from flask import Flask, request

from flask_taskqueue import PermanentFailure, Retry, TaskSpec, current_task
from tests.whole import loop_app
from tests.whole.loop_app import Effect, db, log, tasks

from .operations import LABEL, Wish

PIECE = 0.01
"""Seconds: a deadline strikes between two sleeps, not within one."""


@tasks.worker("/act")
def act(does: str, times: int, seconds: float, grows: str = "") -> None:
    """Do what the task says."""
    perform(does, times, seconds)


@tasks.worker("/act-once", transactional=True)
def act_once(does: str, times: int, seconds: float, grows: str = "") -> None:
    """Do it, leave an effect, and add another task, all in one transaction."""
    perform(does, times, seconds, lambda: leave(grows))


@tasks.task
def do(does: str, times: int, seconds: float, grows: str = "") -> None:
    """Do it as a plain function."""
    perform(does, times, seconds)


@tasks.worker("/tick")
def tick() -> None:
    """What schedules add."""
    perform("well", 0, 0.0)


for name, misfire, overlap in (
    ("steady", "all", "allow"),
    ("halted", "all", "allow"),
    ("single", "run_once", "skip"),
):
    tasks.schedule(name, "/tick", "* * * * *", misfire=misfire, overlap=overlap)


def perform(does: str, times: int, seconds: float, then: object = None) -> None:
    """Leave a line at the beginning, and one at the end that says how it ended; none when the
    process dies.
    """
    log("start")
    try:
        misbehave(does, first=current_task.attempt <= times)
        rest(seconds)
        if callable(then):
            then()
    except BaseException:
        log("fail")
        raise
    log("end")


def misbehave(does: str, *, first: bool) -> None:
    """Fail, or worse, as told; a broken one does not once somebody has mended it."""
    if does in ("die", "poison") and (first or does == "poison"):
        log("die")
        os._exit(1)
    if does == "flop" or (does == "fail" and first):
        raise RuntimeError("as told")
    if does == "retry" and first:
        raise Retry(after=0.05)
    if does == "permanent" or (does == "broken" and not mark(request.headers[LABEL]).exists()):
        raise PermanentFailure("as told")
    if does == "overrun" and first:
        rest(60)


def rest(seconds: float) -> None:
    """Take so long, in pieces."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(PIECE, left))


def leave(grows: str) -> None:
    """An effect, and perhaps a task that is part of the transaction."""
    db.session.add(Effect(task_id=current_task.id))
    if grows:
        tasks.add(spec_of(Wish(label=grows)))


def spec_of(wish: Wish) -> TaskSpec:
    """The task of a wish."""
    then = [spec_of(follower) for follower in wish.then]
    options = {**wish.options, "headers": {LABEL: wish.label}} | ({"then": then} if then else {})
    handler = {"act": act, "act_once": act_once, "do": do}[wish.handler]
    return handler.options(**options).spec(wish.does, wish.times, wish.seconds, wish.grows)


def mark(label: str) -> Path:
    """The file that says that a broken task has been mended."""
    return Path(os.environ["LOOP_LOG"]).with_name(f"mended-{label}")


def create_app() -> Flask:
    """The application on ``LOOP_DATABASE``."""
    return loop_app.create_app()
