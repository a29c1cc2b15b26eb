"""What an idle dispatcher costs: processor seconds a minute, and statements a second.

python -m benchmarks idle [--seconds 60] [--database URL]
"""

from __future__ import annotations

import argparse
import resource
import time

import sqlalchemy as sa

from .apps import application


def main() -> None:
    """Let a dispatcher run with nothing to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    with application(given.database) as app:
        runtime = app.extensions["taskqueue"]
        statements: list[str] = []
        runtime.start()
        time.sleep(2)
        sa.event.listen(runtime.store.database.engine, "after_cursor_execute", lambda *given: statements.append(given[2]))
        before = resource.getrusage(resource.RUSAGE_SELF)
        time.sleep(given.seconds)
        after = resource.getrusage(resource.RUSAGE_SELF)
        runtime.stop()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    queries = [one for one in statements if not one.startswith("BEGIN")]
    print(f"| processor | {60 * used / given.seconds:.2f} s a minute |")
    print(f"| queries | {len(queries) / given.seconds:.2f} a second |")


if __name__ == "__main__":
    main()
