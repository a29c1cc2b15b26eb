"""The maker of tasks, which turns the arguments of ``tasks.add`` into a checked task."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask

from ..core.arguments.form import fields
from ..core.errors import InvalidTaskError
from ..core.names import check_key, check_queue_name, check_task_name, is_webhook, task_id
from ..core.security.targets import Targets
from ..core.settings.app import Settings
from ..core.settings.queue import QueueSettings
from ..core.settings.services import service_url
from ..core.tasks.cloudevents import with_event
from ..core.tasks.declared import check_target, then_specs, with_declared
from ..core.tasks.forwarded import check_forwardable
from ..core.tasks.handover import awaiting, has_reply, take_out
from ..core.tasks.options import (
    check_deadline,
    check_due_before_expiry,
    check_flag,
    check_mode,
    check_priority,
    conflict,
    expiry,
    lock,
    resolve_delay,
    retry_json,
)
from ..core.tasks.packed import FollowUpError, pack
from ..core.tasks.request import PULL, UNSET, TaskRequest, build_request, check_method, check_size
from ..core.tasks.spec import NewTask, SpecOptions, TaskSpec
from ..core.times import duration_micros
from ..core.urls import check_path, is_absolute, no_url
from ..runtime import FindQueue, QueueLookup
from ..web.routes import RouteFinder
from ..web.worker import Route, Worker

_NOTHING_BEFORE = (
    "REPLY is the reply of the task that this one follows, and it follows none: it can stand only "
    "in a task of then"
)
_NO_ROUTE = Route(rule="", endpoint="")


class TaskMaker:
    """A maker of an app's tasks from their specs; it stores nothing."""

    def __init__(self, app: Flask, settings: Settings, targets: Targets) -> None:
        self._settings = settings
        self._targets = targets
        self._routes = RouteFinder(app)
        self._app = weakref.ref(app)

    def new_task(
        self, spec: TaskSpec, *, item: str = "", find_queue: FindQueue | None = None
    ) -> NewTask:
        """Return the task that a spec asks for.

        ``item`` says which one of a list it is, for the message of an error. ``find_queue``
        finds queues that are not configured, and remembers them for the other tasks of a call.
        Raises `InvalidTaskError` and its subclasses, and `UnknownQueueError`.
        """
        try:
            return self._new_task(spec, find_queue or self._lookup())
        except InvalidTaskError as error:
            if has_reply(spec):
                raise InvalidTaskError(f"{item}{_NOTHING_BEFORE}") from error
            if not item:
                raise
            raise type(error)(f"{item}{error}") from error

    def new_task_of(
        self,
        request: TaskRequest,
        options: SpecOptions,
        surface: str | None = None,
        *,
        find_queue: FindQueue | None = None,
    ) -> NewTask:
        """Return the task that sends a request as it is.

        The request goes to a path of the app, whether a route answers it or not, or to an absolute
        URL that is allowed; with the method `PULL` it waits in a pull queue. The options are those
        of a spec but the method, the headers and the body. ``surface`` is as the task stores it.
        Raises `InvalidTaskError` and its subclasses.
        """
        url, worker = self._locate(request, options)
        request = replace(request, url=url)
        if request.method != PULL:
            check_size(request, self._settings.max_body)
        new = self._of_request(
            request, worker, _declared(worker, options), find_queue or self._lookup()
        )
        return replace(new, surface=surface)

    def _following(self, spec: TaskSpec, item: str, find_queue: FindQueue, level: int) -> NewTask:
        """Return a task that follows others, of which it may ask the last one for its reply."""
        try:
            rest, reply_to = take_out(spec)
            new = self._new_task(rest, find_queue, level)
            if reply_to is None:
                return new
            return replace(new, request=awaiting(new.request, reply_to), reply_to=reply_to)
        except FollowUpError:
            raise
        except InvalidTaskError as error:
            raise type(error)(f"{item}{error}") from error

    def _new_task(self, spec: TaskSpec, find_queue: FindQueue, level: int = 0) -> NewTask:
        url, options = spec.url, spec.options
        if options.get("transactional") is not None:
            raise InvalidTaskError(
                "one of several tasks has transactional of its own: give it to the call that "
                "adds them all"
            )
        method = check_method(options.get("method") or _method_of(url))
        path, worker, params = self._resolve(url, spec.params, method, options, find_queue)
        name = options.get("name")
        if name is not None and worker is not None:
            brings = params or "?" in path or "json" in options or "payload" in options
            if not brings:
                worker.check_name(name)
        options = _declared(worker, options)
        request = self._request(path, params, method, options)
        return self._of_request(request, worker, options, find_queue, level)

    def _of_request(
        self,
        request: TaskRequest,
        worker: Worker[..., Any] | None,
        options: SpecOptions,
        find_queue: FindQueue,
        level: int = 0,
    ) -> NewTask:
        """Return the task of a request, with these options and its handler's other settings."""
        route = worker.route if worker is not None else _NO_ROUTE
        following = self._follow_up(options, find_queue, level)
        queue = self._queue(options.get("queue") or route.queue or "default", find_queue)
        check_mode(queue, request.method)
        name, unique_key = options.get("name"), options.get("unique_key")
        target = self._target(options, queue, request.url)
        new = NewTask(
            id=task_id(),
            request=request,
            name=None if name is None else check_task_name(name),
            tombstone_ttl=self._settings.webhook_ttl if is_webhook(name) else queue.tombstone_ttl,
            queue=queue.name,
            priority=check_priority(_given(options.get("priority"), queue.priority)),
            **self._when(options),
            deadline=check_deadline(_given(options.get("deadline"), route.deadline)),
            retry=retry_json(_given(options.get("retry"), route.retry)),
            target=target,
            unique_key=None if unique_key is None else check_key("unique_key", unique_key),
            on_conflict=conflict(options),
            **lock(options, queue, is_added=queue.name not in self._settings.queues),
            follow_up=pack(following) if following else None,
            keep_result=check_flag("keep_result", options.get("keep_result", False))
            or any(spec.reply_to is not None for spec in following),
            for_worker=worker is not None and target is None,
        )
        if queue.engine is not None:
            check_forwardable(new, queue, self._settings.deadline_of(queue, new.deadline))
        return new

    def _request(
        self, path: str, params: Mapping[str, Any] | None, method: str, options: SpecOptions
    ) -> TaskRequest:
        headers, event = options.get("headers"), options.get("event")
        return build_request(
            path,
            params,
            json=options.get("json", UNSET),
            payload=options.get("payload"),
            method=method,
            headers=headers if event is None else with_event(headers, event, method),
            max_body=self._settings.max_body,
        )

    def _resolve(
        self,
        url: str | Worker[..., Any] | None,
        params: Mapping[str, Any] | None,
        method: str,
        options: SpecOptions,
        find_queue: FindQueue,
    ) -> tuple[str, Worker[..., Any] | None, Mapping[str, Any] | None]:
        """Return the URL, the worker that answers there, and the params it has no place for."""
        if url is None or url == "":
            url = f"/_ah/queue/{options.get('queue') or 'default'}"
        if not isinstance(url, str | Worker):
            raise no_url(url)
        params = None if params is None else fields(params)
        if isinstance(url, Worker):
            path, params = self._routes.build_call(url, {} if params is None else params, method)
            return check_path(path), url, params or None
        if is_absolute(url):
            return self._targets.check(url), None, params
        if not url.startswith("/"):
            path, rest = self._routes.build(url, params or {}, method)
            path = check_path(path)
            return path, self._routes.find(path, method).worker, rest or None
        if self._own_target(options) is not None:
            return check_path(url), None, params
        route = self._routes.find(
            check_path(url), method, may_be_missing=self._goes_elsewhere(options, find_queue)
        )
        return route.path, route.worker, params

    def _locate(
        self, request: TaskRequest, options: SpecOptions
    ) -> tuple[str, Worker[..., Any] | None]:
        """Return the URL of a finished request, and the worker that answers there, if one does."""
        if is_absolute(request.url):
            return self._targets.check(request.url), None
        path = check_path(request.url)
        if self._own_target(options) is not None:
            return path, None
        found = self._routes.find(path, request.method, may_be_missing=True)
        return found.path, found.worker

    def _goes_elsewhere(self, options: SpecOptions, find_queue: FindQueue) -> bool:
        """Tell whether a task without a target of its own has that of its queue."""
        if options.get("target") is not None:
            return False
        return self._queue(options.get("queue") or "default", find_queue).target is not None

    def _queue(self, name: str, find_queue: FindQueue) -> QueueSettings:
        if isinstance(name, str) and name in self._settings.queues:
            return self._settings.queues[name]
        check_queue_name(name)
        return find_queue(name)

    def _lookup(self) -> FindQueue:
        app: Any = self._app()  # is there: a task of it is being made
        return QueueLookup(app.extensions["taskqueue"])

    def _when(self, options: SpecOptions) -> dict[str, Any]:
        """Return when the task is due and when it expires.

        That is the datetime asked for, or the microseconds to wait from when the database stores
        the task.
        """
        eta, limit = options.get("eta"), timedelta(seconds=self._settings.max_eta)
        now = datetime.now(UTC)
        delay = resolve_delay(eta, options.get("countdown"), now=now, max_eta=limit)
        ends = expiry(options.get("expires"))
        check_due_before_expiry(delay, ends, now)
        when: dict[str, Any] = (
            {"eta": eta}
            if eta is not None or delay is None
            else {"delay": duration_micros(delay.total_seconds())}
        )
        return when | ends

    def _follow_up(self, options: SpecOptions, find_queue: FindQueue, level: int) -> list[NewTask]:
        then = options.get("then")
        specs = () if then is None else then_specs(then, level)
        return [
            self._following(spec, f"then, task {number}: ", find_queue, level + 1)
            for number, spec in enumerate(specs)
        ]

    def _own_target(self, options: SpecOptions) -> str | None:
        """Return the base URL of a task's own target; None if it has none, or means this app."""
        given = options.get("target")
        if given is None or is_absolute(check_target(given)):
            return given
        return service_url(self._settings.services, given)

    def _target(self, options: SpecOptions, queue: QueueSettings, path: str) -> str | None:
        given = options.get("target")
        target = queue.target if given is None else self._own_target(options)
        if target is None:
            return None
        base = target.rstrip("/")
        if is_absolute(path):
            raise InvalidTaskError("an absolute URL names its host; leave target out")
        self._targets.check(base + path)
        return base


def _declared(worker: Worker[..., Any] | None, given: SpecOptions) -> SpecOptions:
    """Return the options of a task with those that its handler declares."""
    declared = None if worker is None else worker.route.options
    return with_declared(given, declared) if declared else given


def _given(option: Any, default: Any) -> Any:
    return default if option is None else option


def _method_of(url: str | Worker[..., Any] | None) -> str:
    return url.route.methods[0] if isinstance(url, Worker) else "POST"
