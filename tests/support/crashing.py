"""A process of the product that dies, as by `kill -9`, at one point of its work: `python -m tests.support.crashing ROLE
POINT` is `modelpilot ROLE` that does not survive it."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from activities.requests.call import CallContext, CallState, ModelCaller
from cli.main import main
from infra.db.requests.ledger import PostgresLedger
from infra.db.requests.open_requests import OpenRequests
from infra.temporal.first_task import TemporalFirstTasks
from infra.temporal.starter import TemporalRequests


@dataclass(frozen=True)
class Point:
    """Before or behind a method of the product."""

    owner: type
    method: str
    behind: bool = False


GATEWAY: dict[str, Point] = {
    "accepted": Point(PostgresLedger, "accept", behind=True),
    "about to call": Point(ModelCaller, "first_phase"),
    "calling": Point(CallState, "take"),
    "refused, the next call not claimed": Point(CallContext, "may_make"),
    "refused, the next call claimed": Point(CallContext, "may_make", behind=True),
    "answered, not recorded": Point(PostgresLedger, "record"),
    "recorded": Point(PostgresLedger, "record", behind=True),
    "first phase failed": Point(PostgresLedger, "hand_over"),
    "handed over, Temporal not asked": Point(TemporalRequests, "hand_over"),
    "handed over": Point(TemporalRequests, "hand_over", behind=True),
}
CLOSER: dict[str, Point] = {
    "claimed, not started": Point(TemporalFirstTasks, "start"),
    "started, not noted": Point(TemporalFirstTasks, "start", behind=True),
    "renewed, not noted": Point(TemporalFirstTasks, "renew", behind=True),
    "noted, not handed over": Point(OpenRequests, "note_handed_over", behind=True),
    "handed over": Point(TemporalFirstTasks, "hand_over", behind=True),
    "completed, not marked": Point(TemporalFirstTasks, "complete", behind=True),
}


def die() -> NoReturn:
    """No clean-up at all."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(1)


def deadly(work: Callable[..., Any], *, behind: bool) -> Callable[..., Any]:
    """A coroutine method that kills the process before its work, or behind it."""

    @functools.wraps(work)
    async def dying(*given: Any, **named: Any) -> Any:
        if behind:
            await work(*given, **named)
        die()

    return dying


if __name__ == "__main__":
    role, point = sys.argv[1:]
    chosen = {"gateway": GATEWAY, "closer": CLOSER}[role][point]
    setattr(chosen.owner, chosen.method, deadly(getattr(chosen.owner, chosen.method), behind=chosen.behind))
    sys.argv = ["modelpilot", role]
    main()
