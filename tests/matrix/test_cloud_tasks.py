"""Other clients of Cloud Tasks than the one of `tests/cloudtasks`: discovery, gcloud, Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from flask_taskqueue import State
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase
from tests.matrix.packages import package

TOKEN = "a-token-for-the-tests"
BASE = "https://guests.example.com"
PARENT = "projects/guests/locations/here"
QUEUE = f"{PARENT}/queues/mail"
TASK = {"task": {"httpRequest": {"url": f"{BASE}/worker", "body": "AP8="}}}


@pytest.fixture
def guests(sqlite_database: TestDatabase) -> Iterator[tuple[Bench, str]]:
    """An app that answers clients at the root, and its URL."""
    with (
        bench(
            sqlite_database.url,
            TASKQUEUE_API=True,
            TASKQUEUE_API_TOKEN=TOKEN,
            TASKQUEUE_API_URL_PREFIX="",
            TASKQUEUE_BASE_URL=BASE,
            TASKQUEUE_QUEUES={"mail": {"rate": "20/s"}},
        ) as one,
        served(one.app) as url,
    ):
        one.tasks.worker("/worker")(lambda: None)
        yield one, url


@pytest.mark.parametrize("version", ["v2", "v2beta3"])
@pytest.mark.parametrize("own_document", [False, True])
def test_discoverys_client(guests: tuple[Bench, str], own_document: bool, version: str) -> None:
    """Made from Google's own document, or from the one that is served here."""
    discovery = package("googleapiclient.discovery")
    errors = package("googleapiclient.errors")
    credentials = package("google.oauth2.credentials").Credentials(TOKEN)
    one, url = guests
    if own_document:
        found = requests.get(
            f"{url}/$discovery/rest?version={version}",
            headers={"X-Goog-Api-Key": TOKEN},
            timeout=60,
        )
        service = discovery.build_from_document(found.json(), credentials=credentials)
    else:
        service = discovery.build(
            "cloudtasks",
            version,
            static_discovery=True,
            client_options={"api_endpoint": url},
            credentials=credentials,
        )
    with service:
        queues = service.projects().locations().queues()
        assert [queue["name"] for queue in queues.list(parent=PARENT).execute()["queues"]] == [
            f"{PARENT}/queues/default",
            QUEUE,
        ]
        tasks = queues.tasks()
        created = tasks.create(parent=QUEUE, body=TASK).execute()
        full = tasks.get(name=created["name"], responseView="FULL").execute()
        assert full["httpRequest"]["body"] == "AP8="
        assert queues.pause(name=QUEUE, body={}).execute()["state"] == "PAUSED"
        changed = queues.patch(
            name=QUEUE,
            updateMask="rateLimits.maxDispatchesPerSecond",
            body={"rateLimits": {"maxDispatchesPerSecond": 5}},
        ).execute()
        assert changed["rateLimits"]["maxDispatchesPerSecond"] == 5
        tasks.delete(name=created["name"]).execute()
        with pytest.raises(errors.HttpError) as raised:
            tasks.get(name=created["name"]).execute()
    assert raised.value.status_code == 404
    assert one.tasks.find()[0].state is State.CANCELLED


def test_gclouds_library_by_its_emulator_host(
    guests: tuple[Bench, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``CLOUDTASKS_EMULATOR_HOST``, which asks for v2beta3 at the root."""
    package("gcloud.rest.auth")
    one, url = guests
    monkeypatch.setenv("CLOUDTASKS_EMULATOR_HOST", url.removeprefix("http://"))
    taskqueue = package("gcloud.rest.taskqueue")
    with requests.Session() as session:
        session.headers["X-Goog-Api-Key"] = TOKEN
        queue = taskqueue.PushQueue("guests", "mail", "here", session=session, token=object())
        created = queue.create(TASK["task"])
        assert created["httpRequest"]["body"] == "AP8="
        assert [task["name"] for task in queue.list()["tasks"]] == [created["name"]]
        assert queue.get(created["name"])["name"] == created["name"]
        assert queue.run(created["name"])["name"] == created["name"]
        queue.delete(created["name"])
    assert one.tasks.find()[0].state is State.CANCELLED


def gcloud(url: str, folder: Path, *arguments: str) -> Any:
    """What a command of gcloud prints, as JSON."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    (folder / "token").write_text(TOKEN)
    environment = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDTASKS": f"{url}/",
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
        "CLOUDSDK_CORE_PROJECT": "guests",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
    }
    done = subprocess.run(
        ["gcloud", *arguments, "--location=here", "--format=json"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


@pytest.mark.slow
def test_gcloud(guests: tuple[Bench, str], tmp_path: Path) -> None:
    """Its commands about queues and tasks."""
    one, url = guests
    assert gcloud(url, tmp_path, "tasks", "queues", "describe", "mail")["name"] == QUEUE
    created = gcloud(
        url,
        tmp_path,
        *("tasks", "create-http-task", "one", "--queue=mail", f"--url={BASE}/worker"),
        *("--method=post", "--header=X-Own:1", "--body-content=hello"),
    )
    assert created["name"] == f"{QUEUE}/tasks/one"
    beta = gcloud(url, tmp_path, "beta", "tasks", "queues", "describe", "mail")
    assert (beta["name"], beta["type"]) == (QUEUE, "PUSH")
    (listed,) = gcloud(url, tmp_path, "tasks", "list", "--queue=mail")
    assert listed["httpRequest"]["headers"]["X-Own"] == "1"
    changed = gcloud(
        url,
        tmp_path,
        *("tasks", "queues", "update", "mail", "--max-dispatches-per-second=5"),
        "--max-concurrent-dispatches=7",
    )
    assert changed["rateLimits"]["maxDispatchesPerSecond"] == 5
    added = gcloud(url, tmp_path, "tasks", "queues", "create", "new", "--max-attempts=3")
    assert added["retryConfig"]["maxAttempts"] == 3
    gcloud(url, tmp_path, "tasks", "queues", "pause", "mail")
    assert one.tasks.queue("mail").statistics().paused_at is not None


NODE = """
const {CloudTasksClient} = require("@google-cloud/tasks");
const [way, port, token, parent, url] = process.argv.slice(1);
const grpc = require("google-gax").grpc;

async function client() {
  if (way === "grpc") {
    const sslCreds = grpc.credentials.createInsecure();
    return new CloudTasksClient({servicePath: "127.0.0.1", port: Number(port), sslCreds});
  }
  const {OAuth2Client} = require("google-auth-library");
  const authClient = new OAuth2Client();
  authClient.setCredentials({access_token: token});
  return new CloudTasksClient({
    fallback: "rest", protocol: "http", apiEndpoint: "127.0.0.1", port: Number(port), authClient,
    projectId: "guests",
  });
}

async function main() {
  const tasks = await client();
  const task = {httpRequest: {url, httpMethod: "POST", body: Buffer.from([0, 255])}};
  const options = way === "grpc"
    ? {otherArgs: {headers: {"x-goog-api-key": token}}} : {};
  const [created] = await tasks.createTask({parent, task}, options);
  const [found] = await tasks.getTask({name: created.name, responseView: "FULL"}, options);
  const mask = {paths: ["rate_limits.max_dispatches_per_second"]};
  const queue = {name: parent, rateLimits: {maxDispatchesPerSecond: 5}};
  const [changed] = await tasks.updateQueue({queue, updateMask: mask}, options);
  let code = null;
  try { await tasks.getTask({name: parent + "/tasks/none"}, options); }
  catch (error) { code = error.code; }
  console.log(JSON.stringify({
    name: created.name, body: Buffer.from(found.httpRequest.body).toString("base64"),
    rate: changed.rateLimits.maxDispatchesPerSecond, code,
  }));
}

main().catch(error => { console.error(error); process.exit(1); });
"""


def node(*arguments: str) -> Any:
    """What the script of Node prints, as JSON; ``NODE_PATH`` says where its packages are."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if subprocess.run(
        ["node", "-e", "require('@google-cloud/tasks')"], capture_output=True
    ).returncode:
        pytest.skip("node has no package @google-cloud/tasks: npm install it, and set NODE_PATH")
    done = subprocess.run(["node", "-e", NODE, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nodes_client_by_rest(guests: tuple[Bench, str]) -> None:
    """At the root, because it can add no path; an error has the code of HTTP there."""
    one, url = guests
    port = url.rpartition(":")[2]
    said = node("rest", port, TOKEN, QUEUE, f"{BASE}/worker")
    (task,) = one.tasks.find()
    assert said == {"name": f"{QUEUE}/tasks/{task.id}", "body": "AP8=", "rate": 5, "code": 404}


def test_nodes_client_by_grpc(guests: tuple[Bench, str]) -> None:
    """Which is its default."""
    from flask_taskqueue.cloudtasks.grpc_server import listen

    package("grpc")
    one, _ = guests
    server, address = listen(one.runtime, "127.0.0.1:0")
    server.start()
    try:
        said = node("grpc", address.rpartition(":")[2], TOKEN, QUEUE, f"{BASE}/worker")
    finally:
        server.stop(10).wait()
    (task,) = one.tasks.find()
    assert said == {"name": f"{QUEUE}/tasks/{task.id}", "body": "AP8=", "rate": 5, "code": 5}
