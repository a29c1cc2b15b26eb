"""The status of an rpc, as ``google.rpc.Code`` numbers it and as HTTP shows it."""

from __future__ import annotations

from enum import Enum
from typing import Any


class Code(Enum):
    """How an rpc ended: gRPC's number and the status of an HTTP response."""

    CANCELLED = (1, 499)
    UNKNOWN = (2, 500)
    INVALID_ARGUMENT = (3, 400)
    DEADLINE_EXCEEDED = (4, 504)
    NOT_FOUND = (5, 404)
    ALREADY_EXISTS = (6, 409)
    PERMISSION_DENIED = (7, 403)
    RESOURCE_EXHAUSTED = (8, 429)
    FAILED_PRECONDITION = (9, 400)
    ABORTED = (10, 409)
    UNIMPLEMENTED = (12, 501)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)
    UNAUTHENTICATED = (16, 401)

    @property
    def number(self) -> int:
        """The number that gRPC and ``google.rpc.Status`` have for it."""
        return self.value[0]

    @property
    def http(self) -> int:
        """The status of a response."""
        return self.value[1]


_REPLIES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


def of_reply(status: int) -> tuple[int, str]:
    """Return number and name of the code that a handler's HTTP status stands for; 2xx is OK.

    >>> of_reply(204), of_reply(503), of_reply(500)
    ((0, 'OK'), (14, 'UNAVAILABLE'), (13, 'INTERNAL'))
    """
    if 200 <= status < 300:
        return 0, "OK"
    code = _REPLIES.get(status) or (Code.INTERNAL if status >= 500 else Code.UNKNOWN)
    return code.number, code.name


class RpcError(Exception):
    """An rpc that was refused; the message is a sentence for whoever called."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> dict[str, Any]:
        """The error as a ``google.rpc.Status``."""
        return {"code": self.code.number, "message": self.message}

    @property
    def document(self) -> dict[str, Any]:
        """The error as Google's REST APIs show it."""
        return {
            "error": {
                "code": self.code.http,
                "message": self.message,
                "status": self.code.name,
            }
        }


def invalid(message: str) -> RpcError:
    """Return the error for an argument that cannot be used."""
    return RpcError(Code.INVALID_ARGUMENT, message)
