"""Connecting to Temporal, embedded or real."""

import re
from pathlib import Path

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, TLSConfig
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from infra.crypto.keyring import Keyring
from infra.settings import Settings
from infra.temporal.codec import data_converter
from modelpilot import names
from modelpilot.errors import DependencyUnavailable

log = structlog.get_logger(__name__)

SEARCH_ATTRIBUTES = (names.SEARCH_ROUTER_ID, names.SEARCH_MODEL, names.SEARCH_PROVIDER, names.SEARCH_OUTCOME)


async def connect(settings: Settings, keyring: Keyring, identity: str, wait_s: float = 30.0) -> Client:
    """A client, waiting up to `wait_s` for the service to come up. Raises DependencyUnavailable."""
    try:
        async for attempt in AsyncRetrying(
            stop=stop_after_delay(wait_s),
            wait=wait_exponential(multiplier=0.1, max=2.0),
            retry=retry_if_exception_type((RuntimeError, RPCError)),
            reraise=True,
        ):
            with attempt:
                return await _client(settings, keyring, identity, lazy=False)
    except (RuntimeError, RPCError) as error:
        raise DependencyUnavailable(
            f"Temporal at {settings.temporal_address} does not answer: {_why(error)}"
        ) from error
    raise DependencyUnavailable("Temporal was not asked at all")  # the loop above returns or raises


def _why(error: Exception) -> str:
    # The library's text has Rust's nested structures around the system's own words.
    inner = re.search(r'message: "([^"]+)"', str(error))
    return inner[1] if inner else str(error)[:200]


async def lazy_client(settings: Settings, keyring: Keyring, identity: str) -> Client:
    """A client that connects with its first call, for processes that work while the service is away."""
    return await _client(settings, keyring, identity, lazy=True)


async def _client(settings: Settings, keyring: Keyring, identity: str, *, lazy: bool) -> Client:
    if settings.temporal_address is None:
        raise DependencyUnavailable(
            "MODELPILOT_TEMPORAL_ADDRESS is not set; `modelpilot up` starts a server and sets it"
        )
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
        tls=_tls(settings),
        data_converter=data_converter(keyring),
        identity=identity,
        lazy=lazy,
    )


def _tls(settings: Settings) -> TLSConfig | bool:
    if not settings.temporal_tls:
        return False
    return TLSConfig(
        server_root_ca_cert=_read(settings.temporal_tls_ca_file),
        client_cert=_read(settings.temporal_tls_cert_file),
        client_private_key=_read(settings.temporal_tls_key_file),
        domain=settings.temporal_tls_server_name,
    )


def _read(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None else None


async def ensure_search_attributes(client: Client) -> None:
    """Register our search attributes where they are missing; without them no workflow could be started."""
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = [name for name in SEARCH_ATTRIBUTES if name not in listed.custom_attributes]
    if not missing:
        return
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=dict.fromkeys(missing, keyword))
    )
    log.info("search_attributes_added", names=missing)
