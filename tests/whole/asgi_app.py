"""The application that is killed again and again, behind the adapter of asgiref."""

from __future__ import annotations

from asgiref.wsgi import WsgiToAsgi

from tests.whole.loop_app import create_app

app = WsgiToAsgi(create_app())
