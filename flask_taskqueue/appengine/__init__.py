"""App Engine's task queue modules, for code whose imports change and nothing else.

``from flask_taskqueue.appengine import taskqueue, deferred`` stands for ``from
google.appengine.api import taskqueue`` and ``from google.appengine.ext import deferred``.
"""
