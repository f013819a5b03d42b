"""Which base URLs a provider may have, and where its name may lead."""

import ipaddress
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from infra.providers.addresses import AddressRefused, AddressRule, GuardedResolver
from modelpilot.errors import InvalidRequest
from modelpilot.wire.formats import join_url, versioned_url

PRODUCTION = AddressRule.of(allow_internal=False)
DEVELOPMENT = AddressRule.of(allow_internal=True)
LISTED = AddressRule.of(allow_internal=False, private_hosts=["Ollama.lan", "10.1.2.3", "192.168.7.0/24", "[fd00::5]"])

PUBLIC = [
    "https://api.openai.com/v1",
    "http://8.8.8.8:8000/v1",
    "https://[2606:4700::1111]/v1",
    "https://h.example/?a=b",
]
INTERNAL = [
    "http://127.0.0.1:8000/v1", "http://localhost/v1", "http://a.localhost", "http://localhost./v1", "http://10.0.0.1",
    "http://192.168.1.1", "http://172.16.0.1", "http://100.64.0.1", "http://[::1]/", "http://[fd00::1]",
    "http://[::ffff:127.0.0.1]",
]  # fmt: skip
NEVER = [
    "http://169.254.169.254/latest", "http://[fe80::1]", "http://0.0.0.0", "http://[::]", "http://224.0.0.1",
    "http://[::ffff:169.254.169.254]", "http://[64:ff9b::a9fe:a9fe]",
    "ftp://h.example", "file:///etc/passwd", "//h.example", "h.example", "", "http://", "http:///v1",
    "http://user:pw@h.example", "http://user@h.example", "http://h.example:99999", "http://h.example:x",
    "http://h.example/#f", "http://h example", "http://h.example\\@evil", "http://h.example\r\nx: y", "http://１27.0.0.1",
    "http://127.1", "http://2130706433", "http://0x7f000001", "http://0x7f.1", "http://h%2eexample", "http://[::1",
    "http://h..example", "http://" + "a" * 64 + ".example", "http://[fe80::1%25eth0]",
]  # fmt: skip


def accepts(rule: AddressRule, url: str) -> bool:
    try:
        rule.check_url(url)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("url", PUBLIC)
def test_public_addresses_are_always_allowed(url: str) -> None:
    """Ordinary providers work everywhere."""
    assert accepts(PRODUCTION, url)
    assert accepts(DEVELOPMENT, url)


@pytest.mark.parametrize("url", INTERNAL)
def test_internal_addresses_are_for_development(url: str) -> None:
    """In production nobody makes us call into our own network."""
    assert not accepts(PRODUCTION, url)
    assert accepts(DEVELOPMENT, url)


@pytest.mark.parametrize("url", NEVER)
def test_never_allowed(url: str) -> None:
    """Metadata services, other schemes, credentials in the URL, and addresses in disguise."""
    assert not accepts(PRODUCTION, url)
    assert not accepts(DEVELOPMENT, url)


def test_a_refusal_names_the_field() -> None:
    """Whoever saves a provider learns which field was wrong."""
    with pytest.raises(InvalidRequest) as caught:
        PRODUCTION.check_url("http://127.0.0.1")
    assert caught.value.param == "baseUrl"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://10.1.2.3:8000", True),
        ("http://10.1.2.4:8000", False),
        ("http://192.168.7.99", True),
        ("http://[fd00::5]:1", True),
        ("http://[::ffff:10.1.2.3]", True),
    ],
)
def test_listed_addresses_are_allowed(url: str, allowed: bool) -> None:
    """MODELPILOT_PRIVATE_PROVIDER_HOSTS opens exactly what it lists."""
    assert accepts(LISTED, url) is allowed


@pytest.mark.parametrize(("host", "allowed"), [("ollama.lan", True), ("OLLAMA.LAN.", True), ("evil.ollama.lan", False)])
def test_listed_names_are_allowed(host: str, allowed: bool) -> None:
    """A listed name may lead anywhere; a similar name may not."""
    assert LISTED.allows(host, ipaddress.ip_address("10.9.9.9")) is allowed


class FixedResolver(AbstractResolver):
    """Resolves every name to the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        self.closed = True


async def test_a_name_that_leads_inside_is_refused() -> None:
    """DNS rebinding: the address that is connected to is the one that was checked."""
    inner = FixedResolver("127.0.0.1", "169.254.169.254")
    with pytest.raises(AddressRefused):
        await GuardedResolver(PRODUCTION, inner).resolve("h.example", 80)


async def test_only_allowed_addresses_remain() -> None:
    """Of several addresses the forbidden ones are left out."""
    resolver = GuardedResolver(PRODUCTION, inner := FixedResolver("10.0.0.1", "8.8.8.8"))
    assert [item["host"] for item in await resolver.resolve("h.example", 80)] == ["8.8.8.8"]
    await resolver.close()
    assert inner.closed


@pytest.mark.parametrize(
    ("base", "path", "query", "url"),
    [
        ("https://h/v1", "chat/completions", "", "https://h/v1/chat/completions"),
        ("https://h/v1/", "x", "alt=sse", "https://h/v1/x?alt=sse"),
        ("https://h/d?api-version=1", "x", "alt=sse", "https://h/d/x?api-version=1&alt=sse"),
    ],
)
def test_join_url(base: str, path: str, query: str, url: str) -> None:
    """Azure's query survives, and slashes do not pile up."""
    assert join_url(base, path, query) == url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h", "https://h/v1"),
        ("https://h/", "https://h/v1"),
        ("https://h/v1", "https://h/v1"),
        ("https://h/v1beta/", "https://h/v1beta/"),
        ("https://h/proxy?k=1", "https://h/proxy/v1?k=1"),
    ],
)
def test_versioned_url(base: str, url: str) -> None:
    """Base URLs work with and without the version, as the providers' own SDKs are given them."""
    assert versioned_url(base, "v1") == url
