"""The checks of `modelpilot doctor` that ask the services."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cli.doctor_checks import Check
from infra.local.environment import join_running_stack
from infra.settings import ConfigurationError, Settings
from modelpilot.errors import DependencyUnavailable

_TIMEOUT_S = 5.0
_START = "start it with `modelpilot up`"


def services(settings: Settings) -> Iterator[Check]:
    """Postgres, Temporal, Milvus and the gateway. Embedded ones that nobody has started are a warning."""
    try:
        settings = join_running_stack(settings)
    except ConfigurationError:
        # Given ones are checked all the same; the others belong to a stack that does not run.
        yield Check("stack", "warn", f"nothing runs on {settings.data_dir}", _START)
    if settings.database_url:
        yield postgres(settings.database_url)
    if settings.temporal_address:
        yield asyncio.run(temporal(settings))
    if settings.milvus_uri:
        yield milvus(settings)
    yield gateway(settings)


def postgres(url: str) -> Check:
    """Reachable, and with the schema of this version."""
    from infra.db.migrate import check

    try:
        check(url)
    except DependencyUnavailable as error:
        return Check("postgres", "fail", error.message, "start it, or run `modelpilot migrate` for an old schema")
    return Check("postgres", "ok", "reachable, with the schema of this version")


async def temporal(settings: Settings) -> Check:
    """Reachable, and with our search attributes."""
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
    from temporalio.service import RPCError

    from infra.crypto.keyring import Keyring, generate_key
    from infra.temporal.client import SEARCH_ATTRIBUTES, connect

    name, address = "temporal", settings.temporal_address
    try:
        # Nothing is decrypted here, so any key will do.
        client = await connect(settings, Keyring([generate_key()]), "doctor", wait_s=1.0)
        request = ListSearchAttributesRequest(namespace=client.namespace)
        known = (await client.operator_service.list_search_attributes(request)).custom_attributes
    except DependencyUnavailable:
        return Check(name, "fail", f"{address} does not answer", "start it, or correct MODELPILOT_TEMPORAL_ADDRESS")
    except RPCError as error:
        return Check(name, "fail", f"{address}: {error.message}", "check MODELPILOT_TEMPORAL_NAMESPACE and its rights")
    if missing := [attribute for attribute in SEARCH_ATTRIBUTES if attribute not in known]:
        return Check(
            name, "fail", f"search attributes are missing: {', '.join(missing)}", "a gateway's start adds them"
        )
    return Check(name, "ok", f"{address}, namespace {settings.temporal_namespace}, search attributes present")


def milvus(settings: Settings) -> Check:
    """Reachable, and with vectors of the configured embedder. Missing Milvus only degrades a request."""
    from infra.vectors.client import recorded_embedder
    from infra.vectors.embedders import EmbedderConfig, create_embedder

    token = settings.milvus_token.get_secret_value() if settings.milvus_token else ""
    try:
        found = recorded_embedder(str(settings.milvus_uri), token)
    except DependencyUnavailable as error:
        return Check("milvus", "fail", error.message, "start it; until then requests are routed without history")
    if found is None:
        return Check("milvus", "ok", "reachable, no history yet")
    embedder = create_embedder(EmbedderConfig())
    if (found.name, found.dimension) != (embedder.name, str(embedder.dimension)):
        detail = (
            f"holds vectors of {found.name} ({found.dimension}), but {embedder.name} ({embedder.dimension}) is used"
        )
        return Check("milvus", "fail", detail, "go back to that embedder, or use another Milvus database")
    return Check("milvus", "ok", f"reachable, vectors of {found.name} ({found.dimension} dimensions)")


def gateway(settings: Settings) -> Check:
    """What `/readyz` says."""
    try:
        status, body = _get_json(f"{settings.api_url}/readyz")
    except (OSError, http.client.HTTPException, ValueError):
        return Check("gateway", "warn", f"nothing answers at {settings.api_url}", _START)
    state = body.get("status", "unknown") if isinstance(body, dict) else "unknown"
    down = [name for name, one in _dependencies(body).items() if one.get("status") != "up"]
    detail = f"{settings.api_url} is {state}" + (f" without {', '.join(down)}" if down else "")
    if status != http.client.OK:
        return Check("gateway", "fail", detail, "see the lines above")
    return Check("gateway", "ok" if state == "ready" else "warn", detail, "see the lines above" if down else "")


def _dependencies(body: Any) -> dict[str, dict[str, Any]]:
    found = body.get("dependencies") if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _get_json(url: str) -> tuple[int, Any]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
