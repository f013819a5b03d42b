"""What values of settings are refused, with words that help and repeat nothing secret."""

import base64
from pathlib import Path

import pytest

from infra.settings import ConfigurationError, Settings, load_settings, read_variables, unknown_variables
from infra.variables import set_twice

KEY = base64.b64encode(bytes(range(32))).decode()
CANARY = "s3cret"


def problems(**variables: str) -> list[str]:
    """What is wrong with these variables."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(variables)
    assert CANARY not in str(caught.value)
    return caught.value.problems


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@h/x",
        "localhost:5432",
        "u:s3cret@h/x",
        "postgresql://u:s3 cret@h/x",
        "postgresql://u:s3cret@h/x\ny",
        "postgresql://u:s3cret%@h/x",
        "postgresql://u:s3cret%zz@h/x",
        "postgresql://u:s3cret%00@h/x",
        "postgresql://u:s3cret@h:port/x",
        "postgresql://u:s3cret@h:99999/x",
        "postgresql://u:s3cret@h:0/x",
        "postgresql://u:a/s3cret@h/x",
        "postgresql://u:a@s3cret@h/x",
        "postgresql://u:s3cret@[::1/x",
        "postgresql://u:s3cret@h/x?nonsense=1",
        "postgresql://u:s3cret@h/x?sslmode=yes",
        "postgresql://u:s3cret@h/x?connect_timeout=soon",
    ],
)
def test_a_url_that_is_no_database(url: str) -> None:
    """Told at the start, and not by every request; libpq's own words would quote the password."""
    [problem] = problems(MODELPILOT_DATABASE_URL=url)
    assert problem.startswith("MODELPILOT_DATABASE_URL: ")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:5432/x",
        "postgres://h/x",
        "postgresql+psycopg://u:p%40%2F@h/x?sslmode=require",
        "postgresql://u:p@[::1]:5432/x",
        "postgresql://h1:1,h2:2/x?target_session_attrs=read-write",
        "postgresql:///x?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/x",
        "postgresql://u:p@h:/x",
    ],
)
def test_urls_that_libpq_takes(url: str) -> None:
    """Several hosts, sockets, escapes and parameters pass."""
    assert load_settings({"MODELPILOT_DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    ("given", "hosts", "url"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:8080"),
        ("::1", "::1", "http://[::1]:8080"),
        ("[::1]", "::1", "http://[::1]:8080"),
        ("127.0.0.1, [::1],127.0.0.1", "127.0.0.1,::1", "http://127.0.0.1:8080"),
        ("10.0.0.5,::1", "10.0.0.5,::1", "http://[::1]:8080"),
        ("10.0.0.5", "10.0.0.5", "http://10.0.0.5:8080"),
        ("0.0.0.0,::", "0.0.0.0,::", "http://127.0.0.1:8080"),
        ("LOCALHOST", "localhost", "http://localhost:8080"),
        ("127.0.0.1,localhost", "localhost", "http://localhost:8080"),
    ],
)
def test_addresses_to_listen_on(given: str, hosts: str, url: str) -> None:
    """One or several; clients on this machine get one that they can open."""
    settings = load_settings({"MODELPILOT_HOST": given, "MODELPILOT_DASHBOARD_HOST": given})
    assert (settings.host, settings.api_url, settings.dashboard_host) == (hosts, url, hosts)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "router.example"),
        ("HOST", "127.0.0.1 ::1"),
        ("HOST", "http://127.0.0.1"),
        ("HOST", "127.0.0.1:80"),
        ("HOST", "0.0.0.0,10.0.0.1"),
        ("HOST", "localhost,::"),
        ("HOST", ","),
        ("DASHBOARD_HOST", "::,::1"),
        ("TEMPORAL_UI_HOST", "127.0.0.1,::1"),
        ("API_PORT", "8080.5"),
        ("API_PORT", "65536"),
        ("API_PORT", "eighty"),
        ("TEMPORAL_ADDRESS", "http://t:7233"),
        ("TEMPORAL_ADDRESS", "t"),
        ("TEMPORAL_ADDRESS", "t:0"),
        ("TEMPORAL_ADDRESS", "t:70000"),
        ("MILVUS_URI", "nonsense"),
        ("MILVUS_URI", "./milvus.db"),
        ("MILVUS_URI", "http://"),
        ("MILVUS_URI", "http://u:s3cret@h:x"),
        ("SIMULATOR_URL", "localhost:9090"),
        ("TEMPORAL_UI_URL", "ftp://h"),
        ("DASHBOARD_PUBLIC_URL", "ops.example.com"),
        ("DASHBOARD_PUBLIC_URL", "https://ops.example.com/pilot/"),
        ("DASHBOARD_PREFIX", "/a b/"),
        ("DASHBOARD_PREFIX", "https://h/pilot"),
        ("DASHBOARD_PREFIX", "/../"),
        ("DASHBOARD_TRUSTED_HOSTS", "http://h"),
        ("DASHBOARD_TRUSTED_PROXIES", "proxy"),
        ("CORS_ORIGINS", "https://a.example/"),
        ("CORS_ORIGINS", "a.example"),
        ("PRIVATE_PROVIDER_HOSTS", "http://10.0.0.1"),
        ("PRIVATE_PROVIDER_HOSTS", "10.0.0.0/33"),
        ("ENCRYPTION_KEYS", "short"),
        ("ENCRYPTION_KEYS", f'"{KEY}"'),
        ("ENCRYPTION_KEYS", f'{KEY},"{KEY}"'),
        ("TEMPORAL_API_KEY", "s3 cret"),
        ("ENV", "prod"),
    ],
)
def test_a_value_that_cannot_be_meant(name: str, value: str) -> None:
    """One sentence, which begins with the variable."""
    [problem] = problems(**{f"MODELPILOT_{name}": value})
    assert problem.startswith(f"MODELPILOT_{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", '"s3cret"'),
        ("OPENAI_API_KEY", "'s3cret'"),
        ("OPENAI_API_KEY", "sk-1,'s3cret'"),
        ("ANTHROPIC_API_KEY", "\u201cs3cret\u201d"),
        ("GOOGLE_API_KEY", "s3cret\nx"),
        ("GOOGLE_API_KEY", "Bearer s3cret"),
        ("OPENROUTER_API_KEY_DEV", "s3cret\u00e9"),
        ("OPENAI_API_KEY", '"s3cret'),
        ("OPENAI_BASE_URL", "api.openai.com/v1"),
        ("OPENAI_BASE_URL", "https://u:s3cret@h/v1"),
        ("OPENAI_BASE_URL", '"https://h/v1"'),
        ("OPENAI_BASE_URL", "https:///v1"),
        ("HTTPS_PROXY", "socks5://u:s3cret@h:1"),
        ("https_proxy", "http://u:s3cret@h:x"),
        ("HTTP_PROXY", "http://h/path"),
    ],
)
def test_a_key_or_address_of_a_provider_that_cannot_be_meant(name: str, value: str) -> None:
    """Quotes, spaces and line breaks come from shells, `docker --env-file` and files; a header takes none of them."""
    [problem] = problems(**{name: value})
    assert problem.startswith(f"{name}: ")


def test_space_around_a_value_is_none() -> None:
    """A line break at the end of a mounted secret, and a value of nothing but spaces."""
    settings = load_settings(
        {"OPENAI_API_KEY": " sk-1\r\n", "MODELPILOT_API_PORT": " ", "MODELPILOT_DATABASE_URL": "\n"}
    )
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "sk-1"
    assert (settings.api_port, settings.database_url) == (8080, None)


def test_a_file_for_tls_that_is_not_there(tmp_path: Path) -> None:
    """Named before anything connects."""
    [problem] = problems(MODELPILOT_TEMPORAL_TLS="true", MODELPILOT_TEMPORAL_TLS_CA_FILE=str(tmp_path / "ca.pem"))
    assert problem.startswith("MODELPILOT_TEMPORAL_TLS_CA_FILE: ")


@pytest.mark.parametrize(
    ("given", "prefix"), [("/", "/"), ("pilot", "/pilot/"), ("/pilot", "/pilot/"), ("/a/b/", "/a/b/")]
)
def test_where_the_site_is(given: str, prefix: str) -> None:
    """A path with or without its slashes; links lead to the public address where there is one."""
    settings = load_settings({"MODELPILOT_DASHBOARD_PREFIX": given})
    assert settings.dashboard_prefix == prefix
    assert settings.site_url == settings.dashboard_url == f"http://127.0.0.1:8050{prefix.rstrip('/')}"
    public = f"https://ops.example.com{prefix}"
    assert (
        load_settings({"MODELPILOT_DASHBOARD_PREFIX": given, "MODELPILOT_DASHBOARD_PUBLIC_URL": public}).site_url
        == public
    )


def test_a_byte_order_mark_means_nothing(tmp_path: Path) -> None:
    """Windows' editors write it."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfMODELPILOT_API_PORT=1\r\nOPENAI_API_KEY='sk-1'\r\n")
    found = read_variables(tmp_path)
    assert (found["MODELPILOT_API_PORT"], found["OPENAI_API_KEY"]) == ("1", "sk-1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("A=s3cret\n".encode("utf-16"), "is not UTF-8 but probably UTF-16; save it as UTF-8"),
        ("A=s3cret\n".encode("utf-16-be"), "is not UTF-8 but probably UTF-16; save it as UTF-8"),
        (b"A=1\nB=s3cret\xe9\n", "line 2 is not UTF-8; save the file as UTF-8"),
        (b"A=1\n\nB='s3cret\nC=1\n", "line 3 is not of the form NAME=value (is a quote open?)"),
        (None, "cannot be read: is a directory"),
    ],
    ids=["UTF-16", "UTF-16 without mark", "Latin-1", "open quote", "directory"],
)
def test_an_env_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, said: str) -> None:
    """Named with its place and what to do, and without what it holds."""
    path = tmp_path / ".env"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read_variables(tmp_path)
    assert caught.value.problems == [f"{path}: {said}"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MODELPILOT_API_PROT", "MODELPILOT_API_PROT is not a setting; did you mean MODELPILOT_API_PORT?"),
        ("MODELPILOT_API_PROT_DEV", "MODELPILOT_API_PROT_DEV is not a setting; did you mean MODELPILOT_API_PORT?"),
        ("modelpilot_api_port", "modelpilot_api_port is not a setting; did you mean MODELPILOT_API_PORT?"),
        ("MODELPILOT_ENV_PROD", "MODELPILOT_ENV_PROD is not a setting: MODELPILOT_ENV says which suffix counts"),
        ("MODELPILOT_API_PORT_PROD", None),
        ("MODELPILOT_API_KEY", None),
        ("MODELPILOT_VERSION", None),
        ("API_PROT", None),
    ],
)
def test_names_that_nothing_reads(name: str, said: str | None) -> None:
    """A remark, with the name that was probably meant."""
    found = list(unknown_variables(Settings, {name: "1"}))
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


def test_a_name_that_the_file_has_twice(tmp_path: Path) -> None:
    """With other values only; the last one counts, as for every reader of such files."""
    (tmp_path / ".env").write_text("A=1\n\n# x\nA=2\nB=1\nB=1\n")
    assert list(set_twice(tmp_path)) == [
        f"A is set twice, in the lines 1 and 4 of {tmp_path / '.env'}; the last one counts"
    ]
    assert read_variables(tmp_path)["A"] == "2"


def test_remarks_are_logged_once_the_settings_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every process says them, and starts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MODELPILOT_API_PROT=1\n")
    monkeypatch.setattr("infra.settings.log.propagate", True)
    load_settings()
    assert "MODELPILOT_API_PROT is not a setting; did you mean MODELPILOT_API_PORT?" in caplog.messages
