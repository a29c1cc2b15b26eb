"""App Engine's queue.yaml and cron.yaml."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue import ConfigurationError, RetryOptions, Settings
from flask_taskqueue.core.appengine.cron_yaml import CronEntry, parse_cron_yaml
from flask_taskqueue.core.appengine.queue_yaml import parse_queue_yaml

QUEUES = """\
# The queues of a shop.
total_storage_limit: 1.2G
resume_paused_queues: True

queue:
- name: default
  rate: 35/s
- name: mail
  mode: push
  rate: 2000/d
  bucket_size: 10
  max_concurrent_requests: 3
  target: https://mail.example.com/app/
  acl:
  - user_email: someone@example.com
  - writer_email: other@example.com
  retry_parameters:
    task_retry_limit: 7
    task_age_limit: 2d
    min_backoff_seconds: 10
    max_backoff_seconds: 2.5e2
    max_doublings: 0
- name: paused
  rate: 0/s
"""

JOBS = """\
cron:
- description: "what was sold"
  url: /tasks/report?of=yesterday
  schedule: every day 04:30
  timezone: Europe/Berlin
  target: http://127.0.0.1:8000
  attempt_deadline: 7.5s
  retry_parameters:
    job_retry_limit: 0
    job_age_limit: 1h
    min_backoff_seconds: 2.5
    max_doublings: 3
- url: /tasks/sweep
  schedule: every 5 minutes
- url: /tasks/sweep
  schedule: '*/5 * * * *'
  retry_parameters: {max_backoff_seconds: 60}
"""


SERVICES = {"default": None, "worker": "https://worker.example.com", "v2.worker": None}


def queue(*lines: str, rate: str = "rate: 5/s") -> str:
    """A queue.yaml whose queue has these further lines, the first of them line 4."""
    return "\n  ".join(["queue:\n- name: mail", rate, *lines])


def retry(*lines: str) -> str:
    """A queue.yaml with these retry parameters, the first of them line 5."""
    return queue("retry_parameters:", *(f"  {line}" for line in lines))


def job(*lines: str) -> str:
    """A cron.yaml whose job has these further lines, the first of them line 4."""
    return "\n  ".join(["cron:\n- url: /tasks/report", "schedule: every 24 hours", *lines])


def queue_error(text: str) -> str:
    """What is said of a bad queue.yaml."""
    with pytest.raises(ConfigurationError) as refused:
        parse_queue_yaml(text, file="queue.yaml", services=SERVICES)
    return str(refused.value)


def cron_error(text: str) -> str:
    """What is said of a bad cron.yaml."""
    with pytest.raises(ConfigurationError) as refused:
        parse_cron_yaml(text, file="cron.yaml", services=SERVICES)
    return str(refused.value)


def read_or_refused(text: str) -> bool:
    """Whether a queue.yaml is read, or refused with a line."""
    try:
        parse_queue_yaml(text, file="queue.yaml", services=SERVICES)
    except ConfigurationError as refused:
        return str(refused).startswith("queue.yaml, line ")
    return True


def test_a_queue_yaml_becomes_the_setting_of_queues() -> None:
    """Each key has its counterpart; those that mean nothing here are gone."""
    assert parse_queue_yaml(QUEUES, file="queue.yaml", services=SERVICES) == {
        "default": {"rate": "35/s", "bucket_size": 5},
        "mail": {
            "rate": "2000/d",
            "bucket_size": 10,
            "max_concurrent": 3,
            "target": "https://mail.example.com/app",
            "retry": {
                "task_retry_limit": 7,
                "task_age_limit": 172_800.0,
                "min_backoff_seconds": 10.0,
                "max_backoff_seconds": 250.0,
                "max_doublings": 0,
            },
        },
        "paused": {"rate": "0", "bucket_size": 5},
    }


def test_what_is_read_is_a_good_setting() -> None:
    """It passes the checks of TASKQUEUE_QUEUES as it is."""
    queues = Settings.of(
        {"TASKQUEUE_QUEUES": parse_queue_yaml(QUEUES, file="queue.yaml", services=SERVICES)}
    ).queues
    assert queues["mail"].rate == pytest.approx(2000 / 86_400)
    assert queues["mail"].retry == RetryOptions(
        task_retry_limit=7,
        task_age_limit="2d",
        min_backoff_seconds=10,
        max_backoff_seconds=250,
        max_doublings=0,
    )
    assert queues["paused"].rate == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing yet\n",
        "---\n",
        "null",
        "{}",
        "queue:",
        "queue: []",
        "\ufeffqueue: []",
        "queue: []\n...\n",
        "total_storage_limit: 1024",
    ],
)
def test_a_file_without_queues_is_a_good_one(text: str) -> None:
    """The queue default is left as it is."""
    assert parse_queue_yaml(text, file="queue.yaml", services=SERVICES) == {}


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        (queue(rate="rate: 0"), "rate", "0"),
        (queue(rate="rate: 0.0/m"), "rate", "0"),
        (queue(rate="rate: '1./h'"), "rate", "1./h"),
        (queue("bucket_size:"), "bucket_size", 5),
        (queue("bucket_size: '7'"), "bucket_size", 7),
        (queue("max_concurrent_requests: +5000"), "max_concurrent", 5000),
        (queue("target: http://[::1]:8000"), "target", "http://[::1]:8000"),
        (queue("target: worker"), "target", "https://worker.example.com"),
        (queue("target: v2.worker"), "target", None),
        (
            queue("acl: [{user_email: a@example.com, writer_email: b@example.com}]").replace(
                "\n", "\r\n"
            ),
            "rate",
            "5/s",
        ),
        (queue("retry_parameters: {}"), "retry", {}),
        (retry("task_age_limit: 1.5m"), "retry", {"task_age_limit": 90.0}),
        (retry("min_backoff_seconds: .5"), "retry", {"min_backoff_seconds": 0.5}),
        (
            retry("min_backoff_seconds: 10", "max_backoff_seconds: 10"),
            "retry",
            {"min_backoff_seconds": 10.0, "max_backoff_seconds": 10.0},
        ),
    ],
)
def test_good_values_of_a_queue(text: str, key: str, value: Any) -> None:
    """Numbers in the ways people write them, and empty keys as if left out."""
    assert parse_queue_yaml(text, file="queue.yaml", services=SERVICES)["mail"][key] == value


@pytest.mark.parametrize(
    ("line", "least", "most"),
    [
        ("min_backoff_seconds: 5000", 5000, 5000),
        ("max_backoff_seconds: 0.05", 0.05, 0.05),
        ("max_doublings: 1", 0.1, 3600),
    ],
)
def test_one_backoff_given_alone_moves_the_other_along(
    line: str, least: float, most: float
) -> None:
    """As App Engine has it, when it is beyond the other's default."""
    options = RetryOptions.of(
        parse_queue_yaml(retry(line), file="queue.yaml", services=SERVICES)["mail"]["retry"]
    )
    assert options is not None
    assert (options.min_backoff_seconds, options.max_backoff_seconds) == (least, most)


@pytest.mark.parametrize("name", ["0123", "yes", "a-b", "2024-01-01", "x" * 100])
def test_a_name_is_read_as_it_is_written(name: str) -> None:
    """Also where YAML sees a number, a truth or a date."""
    assert list(
        parse_queue_yaml(
            f"queue: [{{name: {name}, rate: 1/s}}]", file="queue.yaml", services=SERVICES
        )
    ) == [name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- name: mail", "line 1, the whole file: it is a list; it must be a mapping"),
        ("\nmail", "line 2, the whole file: it is 'mail'; it must be a mapping"),
        ("queues: []", "line 1, queues: there is no such key; did you mean queue?"),
        ("queue: mail", "line 1, queue: it is 'mail'; it must be a list"),
        ("queue:\n- mail", "line 2, queue: it is 'mail'; it must be a mapping"),
        ("queue:\n\n-\n", "line 3, queue: it is empty; it must be a mapping"),
        ("queue: []\nqueue: []", "line 2, queue: it is given twice, first in line 1"),
        ("queue:\n- rate: 5/s", "line 2, name: it is missing"),
        (
            "queue:\n- name: my_mail\n  rate: 5/s",
            "line 2, name: queue name 'my_mail' must be 1 to 100 letters",
        ),
        ("queue:\n- name: ''\n  rate: 5/s", "line 2, name: queue name '' must be"),
        (f"queue:\n- name: {'x' * 101}\n  rate: 5/s", "line 2, name: queue name 'xxx"),
        ("queue:\n- name: [a]\n  rate: 5/s", "line 2, name: it is a list; it must be a text"),
        (
            "queue:\n- {name: a, rate: 1/s}\n- rate: 1/s\n  name: a",
            "line 4, name: there is a queue 'a' already, in line 2",
        ),
        ("queue:\n- [a]: b", "line 2, a key: it is a list; it must be a text"),
        ("queue:\n- ~: b", "line 2, a key: it is empty; it must be a text"),
        (
            queue(rate="rate: 5/x"),
            "line 3, rate: it is '5/x'; it must be a number and a unit, such as '20/m'",
        ),
        (queue(rate="rate: 5"), "line 3, rate: it is '5'; it must be a number and a unit"),
        (queue(rate="rate: {s: 5}"), "line 3, rate: it is a mapping; it must be a text"),
        (queue("mode: pop"), "line 4, mode: it is 'pop'; it must be 'push' or 'pull'"),
        (queue("rats: 5/s"), "line 4, rats: there is no such key; did you mean rate?"),
        (
            queue("retry_seconds: 5"),
            "line 4, retry_seconds: there is no such key; did you mean retry_parameters?",
        ),
        (queue("<<: {bucket_size: 5}"), "line 4, <<: there is no such key"),
        (queue("rate: 5/s"), "line 4, rate: it is given twice, first in line 3"),
        (
            queue("bucket_size: many"),
            "line 4, bucket_size: it is 'many'; it must be a whole number",
        ),
        (queue("bucket_size: 1.5"), "line 4, bucket_size: it is '1.5'; it must be a whole number"),
        (queue("bucket_size: 010"), "line 4, bucket_size: it is '010'; it must be a whole number"),
        (
            queue("bucket_size: true"),
            "line 4, bucket_size: it is 'true'; it must be a whole number",
        ),
        (queue("bucket_size: 0"), "line 4, bucket_size: it is 0; it must be a whole number from 1"),
        (queue("bucket_size: " + "9" * 30), "line 4, bucket_size: it is '999"),
        (
            queue("max_concurrent_requests: -1"),
            "line 4, max_concurrent_requests: it is -1; it must be a whole number from 1",
        ),
        (
            queue("target: v1"),
            "line 4, target: target 'v1' is neither a base URL such as 'https://app.example.com' "
            "nor in TASKQUEUE_SERVICES, which has default, v2.worker, worker: add it there",
        ),
        (queue("target: 'v1:worker'"), "line 4, target: it is 'v1:worker'; it must be a base URL"),
        (queue("target: https://"), "line 4, target: it is 'https://'"),
        (queue("target: https://example.com?a=b"), "line 4, target: it is"),
        (queue("target: ftp://example.com"), "line 4, target: it is"),
        (
            queue("acl: someone@example.com"),
            "line 4, acl: it is 'someone@example.com'; it must be a list",
        ),
        (
            queue("acl:", "- reader_email: a@example.com"),
            "line 5, reader_email: there is no such key",
        ),
        (
            queue("acl:", "- user_email: ''"),
            "line 5, user_email: it is ''; it must be a text that is not empty",
        ),
        (queue("retry_parameters: 5"), "line 4, retry_parameters: it is '5'; it must be a mapping"),
        (
            retry("job_retry_limit: 5"),
            "line 5, job_retry_limit: there is no such key; did you mean task_retry_limit?",
        ),
        (
            retry("task_retry_limit: -1"),
            "line 5, task_retry_limit: it is -1; it must be a whole number from 0",
        ),
        (
            retry("max_doublings: -1"),
            "line 5, max_doublings: it is -1; it must be a whole number from 0",
        ),
        (
            retry("task_age_limit: 2"),
            "line 5, task_age_limit: it is '2'; it must be a number and a unit, such as '90s'",
        ),
        (
            retry("task_age_limit: 0d"),
            "line 5, task_age_limit: it is '0d'; it must be a number and a unit",
        ),
        (retry("task_age_limit: -2d"), "line 5, task_age_limit: it is '-2d'"),
        (retry(f"task_age_limit: {'9' * 400}d"), "line 5, task_age_limit: it is '999"),
        (
            retry("min_backoff_seconds: -1"),
            "line 5, min_backoff_seconds: it is '-1'; it must be a number of seconds, 0 or more",
        ),
        (
            retry("max_backoff_seconds: .inf"),
            "line 5, max_backoff_seconds: it is '.inf'; it must be a number of seconds",
        ),
        (
            retry("max_backoff_seconds: 10s"),
            "line 5, max_backoff_seconds: it is '10s'; it must be a number of seconds",
        ),
        (
            retry("max_backoff_seconds: 5", "min_backoff_seconds: 9"),
            "line 6, min_backoff_seconds: it is 9, more than max_backoff_seconds, 5",
        ),
        (
            retry("min_backoff_seconds: 4000", "max_backoff_seconds: 3600"),
            "line 5, min_backoff_seconds: it is 4000, more than",
        ),
        (
            "total_storage_limit: 120X",
            "line 1, total_storage_limit: it is '120X'; it must be bytes, or a number with "
            "K, M, G or T",
        ),
        (
            "resume_paused_queues: maybe",
            "line 1, resume_paused_queues: it is 'maybe'; it must be true or false",
        ),
        (
            "resume_paused_queues: 'True'",
            "line 1, resume_paused_queues: it is 'True'; it must be true or false",
        ),
    ],
)
def test_a_bad_queue_yaml_is_refused_with_line_and_key(text: str, said: str) -> None:
    """The message begins with where, and says what would do."""
    assert queue_error(text).startswith(f"queue.yaml, {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "queue:\n\t- name: mail",
            "line 2: it is not YAML: found character '\\t' that cannot start any token; "
            "indent with spaces, not tabs",
        ),
        ("queue:\n- name: mail\n\trate: 5/s", "line 3: it is not YAML: found character '\\t'"),
        (
            "queue: [\n",
            "line 2: it is not YAML: while parsing a flow node in line 2, expected the node "
            "content",
        ),
        (
            "queue:\n- {name: mail\n",
            "line 3: it is not YAML: while parsing a flow mapping in line 2, expected ',' or '}'",
        ),
        (
            "queue:\n- name: 'mail\n  rate: 5/s\n",
            "line 4: it is not YAML: while scanning a quoted scalar in line 2, found "
            "unexpected end",
        ),
        (
            "queue:\n  - name: mail\n - rate: 5/s\n",
            "line 3: it is not YAML: while parsing a block mapping in line 1, expected <block end>",
        ),
        ("queue: []\n---\nqueue: []", "line 2: a second document begins; the file must hold one"),
        ("queue: &all []", "line 1: anchors (&) and aliases (*) are not read"),
        ("queue:\n- *mail", "line 2: anchors (&) and aliases (*) are not read"),
        (
            "queue:\n- name: mail\n  rate: */5",
            "line 3: it is not YAML: while scanning an alias in line 3, expected alphabetic",
        ),
        ("queue: !!python/object/apply:os.abort []", "line 1: tags (!) are not read"),
        ("queue:\n- name: !secret mail", "line 2: tags (!) are not read"),
        ("queue:\n- name: ! mail", "line 2: tags (!) are not read"),
        ("queue:\n- \x00", "line 2: a YAML file cannot hold the character U+0000"),
        (
            'queue:\n- name: "\\0"',
            "line 2, name: it holds the character U+0000, which cannot be stored",
        ),
        (
            'queue:\n- name: "\\ud800"',
            "line 2, name: it holds the character U+D800, which cannot be stored",
        ),
        ('queue:\n- name: "\\UFFFFFFFF"', "line 2: what follows is not YAML"),
        ("queue: " + "[" * 1_000, "line 1: lists and mappings are nested more than 20 deep"),
        ("- " * 1_000, "line 1: lists and mappings are nested more than 20 deep"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, said: str) -> None:
    """Mistakes of indentation, and all that constructs or multiplies."""
    assert queue_error(text).startswith(f"queue.yaml, {said}")


def test_a_short_file_that_would_grow_is_refused_at_its_first_anchor() -> None:
    """Ten lists of ten times the one before are never made."""
    laughs = "\n".join(
        ["a0: &a0 ha", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11))]
    )
    assert queue_error(laughs).startswith("queue.yaml, line 1: anchors (&)")


def test_a_target_is_shown_without_what_may_be_secret() -> None:
    """User information and query stay out of the message."""
    said = queue_error(queue("target: https://me:hunter2@example.com/?token=hunter2"))
    assert "https://example.com/" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("rate", ["rate:", "mode: push", ""])
def test_a_queue_without_a_rate_has_no_limit(rate: str) -> None:
    """App Engine's parser takes it, and gcloud deploys it."""
    found = parse_queue_yaml(queue(rate=rate), file="queue.yaml", services=SERVICES)
    assert found == {"mail": {"bucket_size": 5}}
    assert Settings.of({"TASKQUEUE_QUEUES": found}).queues["mail"].rate is None


@pytest.mark.parametrize(
    "text",
    [
        queue(rate="mode: pull"),
        queue("mode: pull", "bucket_size: 7", "max_concurrent_requests: 3", "target: worker"),
    ],
)
def test_a_pull_queue_has_nothing_of_a_push_queue(text: str) -> None:
    """It needs no rate, and what has no effect is left out."""
    found = parse_queue_yaml(text, file="queue.yaml", services=SERVICES)
    assert found == {"mail": {"mode": "pull"}}
    assert Settings.of({"TASKQUEUE_QUEUES": found}).queues["mail"].is_pulled


@pytest.mark.parametrize(
    ("name", "url"), [("worker", "https://worker.example.com"), ("default", None)]
)
def test_the_target_of_a_job_is_a_service(name: str, url: str | None) -> None:
    """Its name stands for a base URL, or for this app."""
    [found] = parse_cron_yaml(job(f"target: {name}"), file="cron.yaml", services=SERVICES)
    assert found.target == url


def test_a_cron_yaml_becomes_jobs() -> None:
    """In the file's order, the same URL as often as it is there."""
    assert parse_cron_yaml(JOBS, file="cron.yaml", services=SERVICES) == [
        CronEntry(
            url="/tasks/report?of=yesterday",
            schedule="every day 04:30",
            timezone="Europe/Berlin",
            description="what was sold",
            target="http://127.0.0.1:8000",
            deadline=7.5,
            retry=RetryOptions(
                task_retry_limit=0, task_age_limit=3600, min_backoff_seconds=2.5, max_doublings=3
            ),
            line=2,
        ),
        CronEntry(
            url="/tasks/sweep",
            schedule="every 5 minutes",
            timezone="UTC",
            retry=RetryOptions(task_retry_limit=0),
            line=13,
        ),
        CronEntry(
            url="/tasks/sweep",
            schedule="*/5 * * * *",
            retry=RetryOptions(task_retry_limit=5, max_backoff_seconds=60),
            line=15,
        ),
    ]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "cron:", "cron: []"])
def test_a_file_without_jobs_is_a_good_one(text: str) -> None:
    """Nothing is planned then."""
    assert parse_cron_yaml(text, file="cron.yaml", services=SERVICES) == []


@pytest.mark.parametrize(
    ("lines", "limit"),
    [
        ([], 0),
        (["retry_parameters:"], 0),
        (["retry_parameters: {}"], 5),
        (["retry_parameters: {job_age_limit: 1d}"], 5),
        (["retry_parameters: {job_retry_limit: 3}"], 3),
    ],
)
def test_a_job_is_tried_again_only_if_the_file_says_so(lines: list[str], limit: int) -> None:
    """Without the block, or with an empty one, it is not; with it five times unless given."""
    assert (
        parse_cron_yaml(job(*lines), file="cron.yaml", services=SERVICES)[0].retry.task_retry_limit
        == limit
    )


def test_a_description_may_be_long_but_not_longer() -> None:
    """499 characters are App Engine's limit."""
    assert (
        parse_cron_yaml(job(f"description: {'x' * 499}"), file="cron.yaml", services=SERVICES)[
            0
        ].description
        == "x" * 499
    )
    assert (
        cron_error(job(f"description: {'x' * 500}"))
        == "cron.yaml, line 4, description: it has 500 characters; it may have 499"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("job: []", "line 1, job: there is no such key; there are cron"),
        ("cron: {url: /a}", "line 1, cron: it is a mapping; it must be a list"),
        (
            "cron:\n- schedule: every 1 hours",
            "line 2, url: it is missing; give it, such as 'url: /tasks/report'",
        ),
        (
            "cron:\n- url: /a\n- url: /b\n  schedule: every day 00:00",
            "line 2, schedule: it is missing",
        ),
        (
            "cron:\n- url: tasks/a\n  schedule: every 1 hours",
            "line 2, url: it is 'tasks/a'; it must be a path that begins with a slash",
        ),
        (
            "cron:\n- url: https://example.com/\n  schedule: every 1 hours",
            "line 2, url: it is 'https://example.com/'; it must be a path",
        ),
        (
            "cron:\n- url: //example.com/\n  schedule: every 1 hours",
            "line 2, url: url '//example.com/' must be a path",
        ),
        (
            "cron:\n- url: /a\n  schedule: ''",
            "line 3, schedule: it is ''; it must be a text that is not empty",
        ),
        (
            "cron:\n- url: /a\n  schedule: [every, day]",
            "line 3, schedule: it is a list; it must be a text",
        ),
        (
            "cron:\n- url: /a\n  schedule: * * * * *",
            "line 3: it is not YAML: while scanning an alias in line 3, expected alphabetic",
        ),
        (job("timezone: ''"), "line 4, timezone: it is ''; it must be a text that is not empty"),
        (job("time_zone: UTC"), "line 4, time_zone: there is no such key; did you mean timezone?"),
        (
            job("target: mailer"),
            "line 4, target: target 'mailer' is neither a base URL such as",
        ),
        (
            job("attempt_deadline: 180"),
            "line 4, attempt_deadline: it is '180'; it must be seconds with their unit, such "
            "as '180s'",
        ),
        (job("attempt_deadline: 3m"), "line 4, attempt_deadline: it is '3m'; it must be seconds"),
        (
            job("attempt_deadline: 0s"),
            "line 4, attempt_deadline: it is '0s'; it must be a duration from 0.001 to 86400 "
            "seconds",
        ),
        (
            job("attempt_deadline: 86401s"),
            "line 4, attempt_deadline: it is '86401s'; it must be a duration",
        ),
        (
            job("retry_parameters:", "  job_retry_limit: 6"),
            "line 5, job_retry_limit: it is 6; it must be a whole number from 0 to 5",
        ),
        (
            job("retry_parameters:", "  task_retry_limit: 3"),
            "line 5, task_retry_limit: there is no such key; did you mean job_retry_limit?",
        ),
        (
            job("retry_parameters:", "  job_age_limit: 0s"),
            "line 5, job_age_limit: it is '0s'; it must be a number and a unit",
        ),
        (
            job("retry_parameters: {min_backoff_seconds: 9, max_backoff_seconds: 5}"),
            "line 4, min_backoff_seconds: it is 9, more than max_backoff_seconds, 5",
        ),
    ],
)
def test_a_bad_cron_yaml_is_refused_with_line_and_key(text: str, said: str) -> None:
    """The message begins with where, and says what would do."""
    assert cron_error(text).startswith(f"cron.yaml, {said}")


@given(
    st.text(
        st.sampled_from("queue:name rate-[]{}'\"\\#&*!|>%@`,?\n\t\r0159/sUx.\x00\x85\ud800é"),
        max_size=60,
    ),
    st.integers(0, len(QUEUES)),
)
def test_whatever_a_file_holds_the_error_is_one_of_configuration(noise: str, at: int) -> None:
    """With any noise at any place it is read, or refused with its line."""
    for text in (noise, QUEUES[:at] + noise + QUEUES[at:]):
        assert read_or_refused(text)
