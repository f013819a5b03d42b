"""Names of requests over two real gateways: equal requests under one new name are one request."""

import asyncio
from typing import Any

import aiohttp

from tests.support.requests import ask, chat
from tests.support.world import Gateway, World

ROUNDS = 8


async def test_two_gateways_given_the_same_new_name_at_once_give_one_answer(
    world: World, gateway: Gateway, client: aiohttp.ClientSession
) -> None:
    """Whoever loses the race joins: no 409 for a client that sent the same thing twice, and nothing is paid twice."""
    with world.gateway() as second:
        async with world.client(second) as other:
            for number in range(ROUNDS):
                body, name = chat(f"name race {number}."), f"name-race-{number}"
                asked = (ask(each, "demo", body, x_request_id=name) for each in (client, other))
                (status, mine), (other_status, theirs) = await asyncio.gather(*asked)
                assert (status, other_status) == (200, 200), (mine, theirs)
                assert _answer(mine) == _answer(theirs)
                completed = (await world.provider_calls(f"name race {number}."))["completed"]
                assert completed == 1


async def test_a_body_that_was_refused_does_not_keep_its_name(client: aiohttp.ClientSession) -> None:
    """The corrected body may have it, with an Idempotency-Key as with an x-request-id."""
    for header in ("x_request_id", "Idempotency_Key"):
        refused = await ask(client, "nothing", chat("to no router"), **{header: f"given-back-{header}"})
        assert refused[0] == 404
        assert (await ask(client, "demo", chat("to the demo"), **{header: f"given-back-{header}"}))[0] == 200


def _answer(body: dict[str, Any]) -> tuple[str, str]:
    return body["modelpilot"]["requestId"], body["choices"][0]["message"]["content"]
