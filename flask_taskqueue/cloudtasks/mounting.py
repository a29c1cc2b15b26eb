"""The routes of the API: each version below its name, as Google's clients ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Blueprint, Flask, Response, request

from ..api.audit import Actor
from ..core.errors import shown
from ..core.rpc.status import Code, RpcError
from ..engine.oidc_tokens import CONFIGURATION_PATH, JWKS_PATH, find_oidc_tokens
from ..runtime import Runtime
from ..web.other_extensions import exempt_blueprint
from .access import check_access
from .descriptions.discovery import discovery
from .descriptions.openapi import openapi
from .rest import find_rpc, message_of
from .rpcs import RPCS
from .service import CloudTasks

BLUEPRINT = "taskqueue_api"
_VERBS = ("GET", "POST", "PATCH", "DELETE", "PUT")
_WHO = "Cloud Tasks API"
_KEYS_CACHE = "public, max-age=300"
"""How long receivers may keep the public keys."""


def mount(app: Flask, runtime: Runtime) -> None:
    """Register the routes that the settings ask for.

    Raises `ConfigurationError` for a key of OpenID Connect that cannot be used.
    """
    settings = runtime.settings
    if settings.oidc_key:
        _mount_keys(app, runtime)
    if not settings.api:
        return
    service = CloudTasks(runtime, transactional=False)
    blueprint = Blueprint(BLUEPRINT, __name__)
    for version in RPCS:
        blueprint.add_url_rule(
            f"{settings.api_url_prefix}/{version}/<path:rest>",
            version,
            partial(_answer, service, version),
            methods=_VERBS,
            provide_automatic_options=False,
        )
        blueprint.add_url_rule(
            f"{settings.api_url_prefix}/{version}/openapi.json",
            f"{version}_openapi",
            partial(_document, runtime, partial(_openapi, runtime, version)),
        )
    blueprint.add_url_rule(
        f"{settings.api_url_prefix}/$discovery/rest",
        "discovery",
        partial(_document, runtime, lambda: _discovery(runtime)),
    )
    app.register_blueprint(blueprint)
    exempt_blueprint(app, BLUEPRINT)


def _mount_keys(app: Flask, runtime: Runtime) -> None:
    """Register the routes by which receivers find the public keys of our tokens."""
    tokens = find_oidc_tokens(app, runtime.settings)
    if tokens is not None:
        keys = Blueprint(f"{BLUEPRINT}_keys", __name__)
        documents = {CONFIGURATION_PATH: tokens.configuration, JWKS_PATH: tokens.public_keys}
        for path, found in documents.items():
            name = path.rpartition("/")[2].partition(".")[0]
            keys.add_url_rule(path, name, partial(_json, found, 200, cache=_KEYS_CACHE))
        app.register_blueprint(keys)


def _answer(service: CloudTasks, version: str, rest: str) -> Response:
    """Answer a request with the reply of its rpc, or with the error that it raised."""
    runtime = service.runtime
    try:
        check_access(runtime, request)
        rpc, resource = find_rpc(version, request.method, rest)
        message = message_of(rpc, resource, request, runtime.settings.max_body)
        actor = Actor(_WHO, request.remote_addr or "")
        return _json(service.call(rpc, message, actor=actor), 200)
    except RpcError as error:
        return _json(error.document, error.code.http)


def _document(runtime: Runtime, make: Callable[[], Any]) -> Response:
    """Answer with a document about the API."""
    try:
        check_access(runtime, request)
        return _json(make(), 200)
    except RpcError as error:
        return _json(error.document, error.code.http)


def _openapi(runtime: Runtime, version: str) -> Any:
    return openapi(_prefix(runtime), version)


def _discovery(runtime: Runtime) -> Any:
    """Return the discovery document of the version that is asked for. Raises `RpcError`."""
    version = request.args.get("version", "v2")
    if version not in RPCS:
        raise RpcError(Code.NOT_FOUND, f"version {shown(version)} is none of {', '.join(RPCS)}")
    return discovery(request.host_url, _prefix(runtime), version)


def _prefix(runtime: Runtime) -> str:
    """Return where the routes are, as a client sees it."""
    return f"{request.root_path}{runtime.settings.api_url_prefix}"


def _json(document: object, status: int, *, cache: str = "no-store") -> Response:
    response = Response(json.dumps(document), status, mimetype="application/json")
    response.headers["Cache-Control"] = cache
    return response
