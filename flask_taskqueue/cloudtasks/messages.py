"""The messages of the Cloud Tasks API, as its versions v2 and v2beta3 have them."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.rpc.messages import (
    BOOLEAN,
    BYTES,
    DECIMAL,
    DURATION,
    INTEGER,
    LONG,
    TEXT,
    TIMESTAMP,
    Choice,
    Dictionary,
    Kind,
    Message,
    Repeated,
)

METHOD = Choice(
    {
        "HTTP_METHOD_UNSPECIFIED": 0,
        "POST": 1,
        "GET": 2,
        "HEAD": 3,
        "PUT": 4,
        "DELETE": 5,
        "PATCH": 6,
        "OPTIONS": 7,
    }
)
VIEW = Choice({"VIEW_UNSPECIFIED": 0, "BASIC": 1, "FULL": 2})
STATE = Choice({"STATE_UNSPECIFIED": 0, "RUNNING": 1, "PAUSED": 2, "DISABLED": 3})
TYPE = Choice({"TYPE_UNSPECIFIED": 0, "PULL": 1, "PUSH": 2})

STATUS = Message("Status", {"code": INTEGER, "message": TEXT})
OIDC_TOKEN = Message("OidcToken", {"serviceAccountEmail": TEXT, "audience": TEXT})
OAUTH_TOKEN = Message("OAuthToken", {"serviceAccountEmail": TEXT, "scope": TEXT})
ROUTING = Message(
    "AppEngineRouting",
    {"service": TEXT, "version": TEXT, "instance": TEXT, "host": TEXT},
    output=frozenset({"host"}),
)
HTTP_REQUEST = Message(
    "HttpRequest",
    {
        "url": TEXT,
        "httpMethod": METHOD,
        "headers": Dictionary(TEXT),
        "body": BYTES,
        "oauthToken": OAUTH_TOKEN,
        "oidcToken": OIDC_TOKEN,
    },
)
APP_ENGINE_HTTP_REQUEST = Message(
    "AppEngineHttpRequest",
    {
        "httpMethod": METHOD,
        "appEngineRouting": ROUTING,
        "relativeUri": TEXT,
        "headers": Dictionary(TEXT),
        "body": BYTES,
    },
)
RETRY_CONFIG = Message(
    "RetryConfig",
    {
        "maxAttempts": INTEGER,
        "maxRetryDuration": DURATION,
        "minBackoff": DURATION,
        "maxBackoff": DURATION,
        "maxDoublings": INTEGER,
    },
)
RATE_LIMITS = Message(
    "RateLimits",
    {
        "maxDispatchesPerSecond": DECIMAL,
        "maxBurstSize": INTEGER,
        "maxConcurrentDispatches": INTEGER,
    },
    output=frozenset({"maxBurstSize"}),
)
ATTEMPT = Message(
    "Attempt",
    {
        "scheduleTime": TIMESTAMP,
        "dispatchTime": TIMESTAMP,
        "responseTime": TIMESTAMP,
        "responseStatus": STATUS,
    },
)
TASK = Message(
    "Task",
    {
        "name": TEXT,
        "httpRequest": HTTP_REQUEST,
        "appEngineHttpRequest": APP_ENGINE_HTTP_REQUEST,
        "scheduleTime": TIMESTAMP,
        "createTime": TIMESTAMP,
        "dispatchDeadline": DURATION,
        "dispatchCount": INTEGER,
        "responseCount": INTEGER,
        "firstAttempt": ATTEMPT,
        "lastAttempt": ATTEMPT,
        "view": VIEW,
        "retryConfig": RETRY_CONFIG,
    },
    output=frozenset(
        {"createTime", "dispatchCount", "responseCount", "firstAttempt", "lastAttempt", "view"}
    ),
)
_ANYTHING = Message("HttpTarget", {})
STATS = Message(
    "QueueStats",
    {
        "tasksCount": LONG,
        "oldestEstimatedArrivalTime": TIMESTAMP,
        "executedLastMinuteCount": LONG,
        "concurrentDispatchesCount": LONG,
        "effectiveExecutionRate": DECIMAL,
    },
)
LOGGING = Message("StackdriverLoggingConfig", {"samplingRatio": DECIMAL})
_QUEUE: Mapping[str, Kind] = {
    "name": TEXT,
    "rateLimits": RATE_LIMITS,
    "retryConfig": RETRY_CONFIG,
    "state": STATE,
    "purgeTime": TIMESTAMP,
    "stackdriverLoggingConfig": LOGGING,
    "httpTarget": _ANYTHING,
}
QUEUE = Message(
    "Queue",
    {**_QUEUE, "appEngineRoutingOverride": ROUTING},
    output=frozenset({"state", "purgeTime"}),
)
BETA_QUEUE = Message(
    "Queue",
    {
        **_QUEUE,
        "appEngineHttpQueue": Message("AppEngineHttpQueue", {"appEngineRoutingOverride": ROUTING}),
        "taskTtl": DURATION,
        "tombstoneTtl": DURATION,
        "type": TYPE,
        "stats": STATS,
    },
    output=frozenset({"state", "purgeTime", "stats"}),
)
CREATE_TASK = Message("CreateTaskRequest", {"parent": TEXT, "task": TASK, "responseView": VIEW})
OPERATION = Message(
    "Operation",
    {
        "name": TEXT,
        "metadata": Message("OperationMetadata", {}),
        "done": BOOLEAN,
        "error": STATUS,
        "response": Message("OperationResponse", {}),
    },
)
BINDING = Message("Binding", {"role": TEXT, "members": Repeated(TEXT)})
POLICY = Message("Policy", {"version": INTEGER, "bindings": Repeated(BINDING), "etag": BYTES})
PERMISSIONS = Message("TestIamPermissionsResponse", {"permissions": Repeated(TEXT)})
LOCATION = Message(
    "Location",
    {"name": TEXT, "locationId": TEXT, "displayName": TEXT, "labels": Dictionary(TEXT)},
)
LOCATIONS = Message(
    "ListLocationsResponse", {"locations": Repeated(LOCATION), "nextPageToken": TEXT}
)
TASKS = Message("ListTasksResponse", {"tasks": Repeated(TASK), "nextPageToken": TEXT})
CMEK_CONFIG = Message("CmekConfig", {"name": TEXT, "kmsKey": TEXT})
NAMED: Mapping[str, Kind] = {"name": TEXT}
PAGE: Mapping[str, Kind] = {"pageSize": INTEGER, "pageToken": TEXT}
