"""Through which proxy a provider is called, by the variables that every other program reads, too."""

import pytest

from infra.providers.environment import proxy_rule
from infra.providers.proxies import ProxyRule
from infra.settings import load_settings

PROXY = "http://proxy.example:3128"
OPENAI = "https://api.openai.com/v1/chat/completions"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.example:1"}, PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ({"HTTPS_PROXY_DEV": PROXY}, PROXY),
        ({"HTTPS_PROXY": "http://u:p%40ss@proxy.example:3128"}, "http://u:p%40ss@proxy.example:3128"),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "socks5://proxy.example", "no_proxy": "*"}, None),
        ({}, None),
    ],
    ids=lambda value: "+".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else "",
)
def test_the_variables(variables: dict[str, str], expected: str | None) -> None:
    """Either spelling counts, the lower one first, each for its own scheme."""
    assert proxy_rule(load_settings(variables)).proxy_for(OPENAI) == expected


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("openai.com", OPENAI, True),
        (".openai.com", OPENAI, True),
        ("*.openai.com", OPENAI, True),
        ("api.openai.com", OPENAI, True),
        ("API.OpenAI.com", OPENAI, True),
        ("api.openai.com:443", OPENAI, True),
        ("api.openai.com:8443", OPENAI, False),
        ("penai.com", OPENAI, False),
        ("openai.com.evil.example", OPENAI, False),
        ("a.example, openai.com", OPENAI, True),
        ("a.example openai.com", OPENAI, True),
        ("10.0.0.0/8", "https://10.1.2.3/v1", True),
        ("10.0.0.0/8", "https://11.1.2.3/v1", False),
        ("10.1.2.3:8000", "https://10.1.2.3:8000/v1", True),
        ("10.1.2.3:8000", "https://10.1.2.3/v1", False),
        ("fd00::/8", "https://[fd00::1]/v1", True),
        ("[fd00::1]:8000", "https://[fd00::1]:8000/v1", True),
        ("fd00::1", "https://[fd00::1]/v1", True),
        ("", "https://127.0.0.1:8000/v1", True),
        ("", "https://[::1]/v1", True),
        ("", "https://localhost/v1", True),
        ("", "https://models.localhost/v1", True),
        ("", OPENAI, False),
    ],
)
def test_hosts_that_are_called_without_one(no_proxy: str, url: str, direct: bool) -> None:
    """NO_PROXY as curl and Go read it; this machine is never behind a proxy."""
    assert (ProxyRule.of(PROXY, PROXY, no_proxy).proxy_for(url) is None) is direct


def test_the_simulator_is_not_behind_a_proxy() -> None:
    """It is ours, in a container as well."""
    rule = proxy_rule(load_settings({"HTTP_PROXY": PROXY, "MODELPILOT_SIMULATOR_URL": "http://simulator:9090"}))
    assert rule.proxy_for("http://simulator:9090/v1/chat/completions") is None
    assert rule.proxy_for("http://models.example/v1/chat/completions") == PROXY


def test_its_password_does_not_show() -> None:
    """Neither in the settings nor in the rule."""
    settings = load_settings({"HTTPS_PROXY": "http://user:canary@proxy.example:3128"})
    assert "canary" not in repr(settings) + repr(proxy_rule(settings))
