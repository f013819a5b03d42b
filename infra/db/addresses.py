"""Whether libpq understands the URL of a database, said without its own words, which quote the password."""

import psycopg
from psycopg.conninfo import conninfo_to_dict

_MOST_PORT = 65_535
_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_ESCAPE = "; in a user name or password write @ as %40, : as %3A, / as %2F, # as %23 and ? as %3F"


def problem_of(url: str) -> str | None:
    """What is wrong with a `postgresql://` URL, as the end of a sentence; None: libpq takes it."""
    try:
        found = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "is not understood by Postgres: look at its brackets, and at the parameters behind ?"
    ports = [port for port in str(found.get("port") or "").split(",") if port]
    if not all(port.isdecimal() and 0 < int(port) <= _MOST_PORT for port in ports):
        return f"has no port between 1 and {_MOST_PORT} behind its host{_ESCAPE}"
    if "@" in str(found.get("host") or "") or "@" in str(found.get("dbname") or ""):
        return f"has an @ that is part of no user, host or database{_ESCAPE}"
    if found.get("sslmode", "prefer") not in _SSL_MODES:
        return f"has another sslmode than {', '.join(sorted(_SSL_MODES))}"
    timeout = str(found.get("connect_timeout", "0"))
    return None if timeout.isdecimal() else "has a connect_timeout that is no number of seconds"
