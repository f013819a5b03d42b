"""What a failed call of Temporal's means to the project."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from temporalio.service import RPCError, RPCStatusCode

from infra.temporal.health import RETRY_AFTER_S
from modelpilot.errors import DependencyUnavailable, NotFound

log = structlog.get_logger(__name__)


@contextmanager
def translated(missing: str = "") -> Iterator[None]:
    """Raise a failed call as NotFound, with the message given, where there is no such workflow; otherwise, and without
    a message always, as DependencyUnavailable."""
    try:
        yield
    except RPCError as error:
        if missing and error.status == RPCStatusCode.NOT_FOUND:
            raise NotFound(missing) from error
        log.warning("temporal_call_failed", status=error.status.name)
        raise DependencyUnavailable("Temporal did not acknowledge in time", retry_after_s=RETRY_AFTER_S) from error
