"""The web server: ``gunicorn -c gunicorn.conf.py "app:create_app()"``."""

bind = "127.0.0.1:8000"
workers = 2
threads = 8

# A worker that says nothing for longer is killed. Without threads that is one whose request takes
# longer, a task's over HTTP too.
timeout = 60

# A worker that is told to stop is killed after this: longer than TASKQUEUE_GRACE_PERIOD, which is
# 25.
graceful_timeout = 35
