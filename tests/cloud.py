"""A Cloud Tasks that behaves: it answers the official client, keeps tasks and delivers them."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask, jsonify, request
from google.auth import crypt, jwt
from google.auth.credentials import AnonymousCredentials
from google.cloud import tasks_v2
from werkzeug.serving import make_server

ACCOUNT = "tasks@guests.iam.gserviceaccount.com"
BASE = "https://guests.example.com/app"
PARENT = "projects/guests/locations/here"


class Signer:
    """A key that signs tokens, with its certificate."""

    def __init__(self, kid: str = "first") -> None:
        self.kid = kid
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        self._signer = crypt.RSASigner.from_string(pem, kid)

    def token(self, **changes: Any) -> str:
        """A token as Cloud Tasks sends it, with some claims changed, or left out if None."""
        now = int(time.time())
        claims = {
            "iss": "https://accounts.google.com",
            "aud": BASE,
            "sub": "1",
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        return str(jwt.encode(self._signer, kept).decode())


@dataclass
class Cloud:
    """The queues, tasks and deliveries of one Cloud Tasks."""

    url: str = ""
    app_url: str = ""
    """Where the app really answers."""
    signer: Signer = field(default_factory=Signer)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)
    queues: dict[str, dict[str, Any]] = field(default_factory=dict)
    masks: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    fetched: int = 0
    refuses: tuple[int, str] | None = None
    proxy_fails: bool = False
    """Whether a proxy before it answers for it, in JSON that Google's client cannot read."""

    def client(self) -> Any:
        """The official client, over REST."""
        return tasks_v2.CloudTasksClient(
            credentials=AnonymousCredentials(),
            transport="rest",
            client_options={"api_endpoint": self.url},
        )

    def settings(self, **queue: Any) -> dict[str, Any]:
        """The settings of an app one of whose queues has this engine."""
        return {
            "TASKQUEUE_QUEUES": {"mail": {"engine": "cloudtasks", **queue}},
            "TASKQUEUE_CLOUDTASKS_PARENT": PARENT,
            "TASKQUEUE_CLOUDTASKS_SERVICE_ACCOUNT": ACCOUNT,
            "TASKQUEUE_CLOUDTASKS_CLIENT": self.client,
            "TASKQUEUE_CLOUDTASKS_CERTS_URL": f"{self.url}/certs",
            "TASKQUEUE_BASE_URL": BASE,
        }

    def deliver(self, name: str | None = None, *, token: str | None = None) -> requests.Response:
        """Deliver one task, the only one unless its name is given, whatever its time."""
        name = name or next(iter(self.tasks))
        task = self.tasks.get(name) or self.retired[name]
        sent = task["httpRequest"]
        path = sent["url"].removeprefix(BASE)
        token = self.signer.token() if token is None else token
        reply = requests.request(
            "POST",
            f"{self.app_url}{path}",
            headers={
                "X-CloudTasks-QueueName": name.split("/")[5],
                "X-CloudTasks-TaskName": name.rpartition("/")[2],
                "X-CloudTasks-TaskRetryCount": str(task["retries"]),
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
            timeout=60,
        )
        task["retries"] += 1
        if reply.ok:
            self.retired[name] = task
            self.tasks.pop(name, None)
            self.gone.add(name)
        return reply

    retired: dict[str, dict[str, Any]] = field(default_factory=dict)


@contextmanager
def cloud_tasks() -> Iterator[Cloud]:
    """A Cloud Tasks on a port of this machine."""
    cloud = Cloud()
    server = make_server("127.0.0.1", 0, _door(cloud), threaded=True)
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _error(code: int, status: str) -> Any:
    return jsonify({"error": {"code": code, "message": status, "status": status}}), code


def _door(cloud: Cloud) -> Flask:
    app = Flask("cloud")

    @app.get("/certs")
    def certs() -> Any:
        cloud.fetched += 1
        reply = jsonify({cloud.signer.kid: cloud.signer.certificate})
        reply.headers["Cache-Control"] = "public, max-age=3600, must-revalidate"
        return reply

    @app.post("/v2/<path:queue>/tasks")
    def create(queue: str) -> Any:
        if cloud.proxy_fails:
            return jsonify({"error": "bad gateway"}), 502
        if cloud.refuses is not None:
            return _error(*cloud.refuses)
        task = json.loads(request.get_data())
        task = task.get("task", task)
        name = task["name"]
        if name in cloud.tasks or name in cloud.gone:
            return _error(409, "ALREADY_EXISTS")
        cloud.tasks[name] = {**task, "retries": 0}
        cloud.created.append(name)
        return jsonify({"name": name})

    @app.get("/v2/<path:name>")
    def get(name: str) -> Any:
        there = name in cloud.tasks or "/tasks/" not in name
        return jsonify({"name": name}) if there else _error(404, "NOT_FOUND")

    @app.delete("/v2/<path:name>")
    def delete(name: str) -> Any:
        cloud.gone.add(name)
        return jsonify({}) if cloud.tasks.pop(name, None) else _error(404, "NOT_FOUND")

    _add_queues(app, cloud)
    return app


def _add_queues(app: Flask, cloud: Cloud) -> None:
    @app.patch("/v2/<path:name>")
    def update(name: str) -> Any:
        if cloud.refuses is not None:
            return _error(*cloud.refuses)
        cloud.masks.append(request.args.get("updateMask", ""))
        cloud.queues[name] = json.loads(request.get_data())
        return jsonify({"name": name})
