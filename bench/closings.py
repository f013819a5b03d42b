"""When the workflows of a phase were really done, by the Temporal server's own record."""

import asyncio
from datetime import UTC, datetime

from temporalio.client import Client

from modelpilot.errors import DependencyUnavailable

SETTLE_WITHIN_S = 60.0
_ASK_AGAIN_S = 0.1


async def last_close(client: Client, workflow: str, since: datetime, expected: int) -> datetime:
    """Wait until all workflows of this name started at or after `since` are closed; when the last one was.

    The clock that stamped them is this machine's, and asking takes place after the fact, so that the answer costs the
    measured phase nothing. Raises DependencyUnavailable when fewer than `expected` have closed in time.
    """
    started = f"WorkflowType = '{workflow}' AND StartTime >= '{since.astimezone(UTC).isoformat('T', 'milliseconds')}'"
    try:
        async with asyncio.timeout(SETTLE_WITHIN_S):
            while not await _all_closed(client, started, expected):  # noqa: ASYNC110 - nothing tells us
                await asyncio.sleep(_ASK_AGAIN_S)
    except TimeoutError:
        found = (await client.count_workflows(started)).count
        raise DependencyUnavailable(
            f"of {expected} {workflow}, {found} were started, and not all have closed"
        ) from None
    closes = [run.close_time async for run in client.list_workflows(started) if run.close_time is not None]
    return max(closes, default=since)


async def _all_closed(client: Client, started: str, expected: int) -> bool:
    # Visibility lags behind a little: first everything must be listed at all.
    if (await client.count_workflows(started)).count < expected:
        return False
    return (await client.count_workflows(f"{started} AND ExecutionStatus = 'Running'")).count == 0
