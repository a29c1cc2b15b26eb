"""Where deliveries may go: what the configuration allows, of URLs and of addresses."""

from __future__ import annotations

from typing import Any

import pytest

from flask_taskqueue.core.errors import ConfigurationError, InvalidUrlError
from flask_taskqueue.core.security.targets import Targets
from flask_taskqueue.core.settings.app import Settings
from flask_taskqueue.core.settings.hosts import is_local, is_public, parse_address

QUEUES = {"mail": {"target": "http://queue.example:9000"}}


def targets(*hosts: str, policy: str | None = None, **config: Any) -> Targets:
    """The targets of a configuration."""
    return Targets.of(
        Settings.of({"TASKQUEUE_ALLOWED_HOSTS": hosts, "TASKQUEUE_TARGETS": policy, **config})
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/x?y=1",
        "https://API.example.com.:443/",
        "https://sub.wild.example/",
        "http://[::1]:8/",
        "http://10.1.255.3:8080/",
        "http://[::ffff:10.1.0.1]/",
        "http://192.0.2.7/",
        "http://queue.example:9000/",
    ],
)
def test_absolute_urls_on_allowed_hosts_pass(url: str) -> None:
    """A host is allowed by name, as a subdomain, by address, by network, or as a queue's
    target, with a port or on any.
    """
    allowed = targets(
        "API.example.com",
        "*.wild.example",
        "[::1]:8",
        "10.1.0.0/16",
        "192.0.2.7:80",
        TASKQUEUE_QUEUES=QUEUES,
    )
    assert allowed.check(url) == url


HOSTILE = [
    "http://evil.example/",
    "http://api.example.com.evil.example/",
    "http://api.example.com@evil.example/",
    "http://user:pw@api.example.com/",
    "http://@api.example.com/",
    "ftp://api.example.com/",
    "file:///etc/passwd",
    "gopher://api.example.com/",
    "http:///x",
    "http://./",
    "http://api.example.com:99999/",
    "http://wild.example/",
    "http://xwild.example/",
    "http://.wild.example.evil.example/",
    "http://api.example.com\\@evil.example/",
    "http://api.example.com/#x",
    "http://evil.example#api.example.com",
    "http://evil.example?api.example.com",
    "http://api.example.com%2f@evil.example/",
    "http://api.example.com%00.evil.example/",
    "http://\uff41pi.example.com/",
    "http://api.example.com\t/",
    "http://[fe80::1%25eth0]/",
    "http://[::1]:9/",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_other_absolute_urls_do_not(url: str) -> None:
    """What only looks like an allowed host is refused."""
    with pytest.raises(InvalidUrlError):
        targets("api.example.com", "*.wild.example", "[::1]:8").check(url)


def test_by_default_nothing_is_allowed_and_the_error_says_which_key() -> None:
    """An application's tasks stay in the application until it says otherwise."""
    assert targets().policy == "internal"
    assert targets("api.example.com").policy == "allowlist"
    with pytest.raises(InvalidUrlError, match="TASKQUEUE_ALLOWED_HOSTS"):
        targets().check("http://127.0.0.1/")


def test_a_list_that_would_be_ignored_is_an_error() -> None:
    """Internal and a list contradict each other; so does a target that has no host."""
    with pytest.raises(ConfigurationError, match="internal"):
        targets("api.example.com", policy="internal")
    with pytest.raises(ConfigurationError, match=r"\['mail'\]\['target'\]"):
        targets(TASKQUEUE_QUEUES={"mail": {"target": "http://a b"}})


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://example.com/", "http://8.8.8.8/", "http://[2606:4700::1111]/"],
)
def test_public_allows_any_host_that_may_be_public(url: str) -> None:
    """On the usual ports; others are to be configured."""
    assert targets(policy="public").check(url) == url
    other = url.replace(".com/", ".com:8443/").replace(".8/", ".8:8443/").replace("]/", "]:8443/")
    with pytest.raises(InvalidUrlError, match="TASKQUEUE_TARGET_PORTS"):
        targets(policy="public").check(other)
    assert targets(policy="public", TASKQUEUE_TARGET_PORTS=[8443]).check(other) == other


@pytest.mark.parametrize(
    ("host", "port", "address", "allowed"),
    [
        ("internal.example", 80, "10.0.0.5", True),
        ("internal.example", 8080, "fd12::5", True),
        ("internal.example", 80, "8.8.8.8", True),
        ("internal.example", 80, "64:ff9b::8.8.8.8", True),
        ("internal.example", 80, "127.0.0.1", False),
        ("internal.example", 80, "::1", False),
        ("internal.example", 80, "::ffff:127.0.0.1", False),
        ("internal.example", 80, "64:ff9b::127.0.0.1", False),
        ("internal.example", 80, "2002:7f00:1::", False),
        ("internal.example", 80, "169.254.169.254", False),
        ("internal.example", 80, "fd00:ec2::254", False),
        ("internal.example", 80, "100.100.100.200", False),
        ("internal.example", 80, "fe80::1%eth0", False),
        ("internal.example", 80, "0.0.0.0", False),
        ("internal.example", 80, "not an address", False),
        ("named.example", 80, "127.0.0.9", True),
        ("named.example", 80, "127.0.0.10", False),
        ("named.example", 80, "169.254.7.7", True),
        ("named.example", 80, "127.0.0.8", False),
        ("named.example", 8080, "127.0.0.8", True),
        ("127.0.0.9", 80, "127.0.0.9", True),
        ("localhost", 80, "127.0.0.1", True),
        ("LOCALHOST.", 80, "::1", True),
        ("localhost", 80, "169.254.169.254", False),
        ("other.example", 80, "127.0.0.9", False),
        ("other.example", 80, "8.8.8.8", False),
    ],
)
def test_an_allowed_name_leads_to_this_machine_only_where_that_is_allowed_too(
    host: str, port: int, address: str, allowed: bool
) -> None:
    """To private addresses it may; a name that is not on the list leads nowhere, whatever its
    address is.
    """
    hosts = (
        "internal.example",
        "named.example",
        "localhost",
        "127.0.0.9",
        "127.0.0.8:8080",
        "169.254.7.0/24",
    )
    assert (targets(*hosts).objection(host, port, address) is None) is allowed


def test_public_and_a_list_add_up() -> None:
    """A host on the list by its rule, any other by that of public hosts: it gains nothing from
    the list's networks.
    """
    both = targets("internal.example", "10.0.0.0/8", policy="public")
    assert both.objection("internal.example", 9, "10.0.0.5") is None
    assert both.objection("other.example", 80, "8.8.8.8") is None
    assert both.objection("other.example", 80, "10.0.0.5") is not None
    assert both.objection("other.example", 9, "8.8.8.8") is not None


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.0",
        "172.32.0.1",
        "::ffff:8.8.8.8",
        "2606:4700::1111",
    ],
)
def test_public_addresses(text: str) -> None:
    """Those next to reserved ones too."""
    assert is_public(parse_address(text))
    assert not is_local(parse_address(text))
