"""What `modelpilot demo` does behind its requests: simulated users rate answers, then the batch jobs run once.

The simulator marks its wrong answers, so that simulated users can know them. Real providers' answers are not rated:
nobody here has read them.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from cli.client import GatewayClient, Refused, Target, segment
from cli.demo_progress import Advance
from modelpilot.chat.text import content_text
from simulator.answers import WRONG_MARKER

# Most people do not rate; a demo needs enough who do. Every third answer stays without a word.
SILENT_EVERY = 3
USERS = 40
_TRIES, _TRY_AGAIN_S = 5, 0.2
_TIMEOUT_S = 30.0
_ASK_EVERY_S, _JOB_PATIENCE_S = 0.5, 90.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a simulated user says about an answer."""

    request_id: str
    user: str
    up: bool


def opinion(body: dict[str, Any], number: int) -> Opinion | None:
    """The opinion on the `number`-th answer; None where nobody says anything."""
    described, choices = body["modelpilot"], body.get("choices") or [{}]
    request_id = described.get("requestId")
    if described.get("provider") != "simulator" or request_id is None or number % SILENT_EVERY == 0:
        return None
    text = content_text((choices[0].get("message") or {}).get("content"))
    return Opinion(request_id, f"demo-user-{number % USERS:02}", WRONG_MARKER not in text)


async def rate(target: Target, opinions: Sequence[Opinion], concurrency: int, advance: Advance) -> list[Opinion]:
    """Send the opinions; those that were taken."""
    waiting, taken = iter(opinions), list[Opinion]()
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(headers=target.headers, timeout=timeout) as session:

        async def some() -> None:
            for each in waiting:
                if await _rated(session, target, each):
                    taken.append(each)
                advance()

        await asyncio.gather(*(some() for _ in range(concurrency)))
    return taken


async def _rated(session: aiohttp.ClientSession, target: Target, said: Opinion) -> bool:
    body = {"requestId": said.request_id, "thumbs": "up" if said.up else "down", "user": said.user}
    for _ in range(_TRIES):
        try:
            async with session.post(f"{target.url}/v1/feedback", json=body) as answer:
                if answer.ok:
                    return True
        except (aiohttp.ClientError, TimeoutError):
            return False
        await asyncio.sleep(_TRY_AGAIN_S)  # the row of an answer may be written a moment after it
    return False


def run_jobs(client: GatewayClient, router: str) -> dict[str, str]:
    """Re-score the router, then aggregate; how each ended, by name."""
    return {
        "rescore": _job(client, "rescore", {"routerId": router}),
        "aggregate": _job(client, "aggregate", None),
    }


def _job(client: GatewayClient, name: str, body: dict[str, Any] | None) -> str:
    """How the job ended, `running` where that takes long, or why it could not be started."""
    try:
        job = client.call("POST", f"/api/jobs/{name}", body)
        give_up_at = time.monotonic() + _JOB_PATIENCE_S
        while job["status"] == "running" and time.monotonic() < give_up_at:
            time.sleep(_ASK_EVERY_S)
            job = client.call("GET", f"/api/jobs/{segment(job['id'])}")
    except Refused as refused:
        return f"not run: {refused.message}"
    return str(job["status"])


def learnt(taken: Sequence[Opinion], jobs: dict[str, str]) -> dict[str, Any]:
    """What the report says of it, as JSON."""
    ups = sum(each.up for each in taken)
    return {"ratings": len(taken), "thumbsUp": ups, "simulatedUsers": True, "jobs": jobs}


def rendered(result: dict[str, Any]) -> list[str]:
    """The same as lines."""
    said = f"{result['ratings']} answers rated by simulated users (the simulator marks its wrong answers)"
    lines = [f"{said}: {result['thumbsUp']} up, {result['ratings'] - result['thumbsUp']} down."]
    return [*lines, *(f"Job {name}: {ended}." for name, ended in result["jobs"].items())]
