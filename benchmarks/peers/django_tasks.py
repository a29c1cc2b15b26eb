"""Django Tasks on PostgreSQL, its database worker."""

from __future__ import annotations

import sys

import django
from django.conf import settings

from .body import POSTGRESQL, perform
from .verbs import run

PORT = POSTGRESQL.rpartition(":")[2].partition("/")[0]
if not settings.configured:
    place = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "bench_peers",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": PORT,
    }
    settings.configure(
        SECRET_KEY="x" * 50,
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django_tasks", "django_tasks_db"],
        DATABASES={"default": {**place, "CONN_MAX_AGE": 600}},
        TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
        LOGGING_CONFIG=None,
    )
    django.setup()

from django_tasks import task as declare  # noqa: E402


@declare()
def task(number: int) -> None:
    """The task."""
    perform(number)


def prepare() -> None:
    """Its tables."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)


def consume() -> None:
    """Its worker."""
    from django.core.management import call_command

    call_command("db_worker", verbosity=0)


def work(processes: int) -> list[str]:
    """Its worker, in this configuration."""
    return [
        sys.executable,
        "-c",
        "from benchmarks.peers import django_tasks; django_tasks.consume()",
    ]


if __name__ == "__main__":
    from benchmarks.peers import django_tasks as this

    run(this.prepare, this.task.enqueue, this.work)
