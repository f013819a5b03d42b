"""Erasing over HTTP, on a whole installation: nothing of a request is left in any store, nor in a gateway's memory."""

import asyncio
import secrets
from functools import partial
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg import sql
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from tests.support.requests import ask, chat, ended, put_model, put_router, request_view
from tests.support.world import Gateway, World, eventually


async def _answered(client: aiohttp.ClientSession, router: str, prompt: str, **fields: Any) -> str:
    """A request that has ended; its id."""
    status, answer = await ask(client, router, chat(prompt, **fields))
    assert status == 200, answer
    request_id = str(answer["modelpilot"]["requestId"])
    await eventually(partial(ended, client, request_id), "it was not recorded")
    return request_id


async def _neighbours(client: aiohttp.ClientSession, router: str, prompt: str) -> list[str]:
    """The past requests that a decision about this prompt would name."""
    async with client.post(f"/router/{router}/explain", json=chat(prompt)) as answer:
        assert answer.status == 200, await answer.text()
        return [each["requestId"] for each in (await answer.json())["decision"]["neighbours"]]


async def _learnt(client: aiohttp.ClientSession, router: str, prompt: str, request_id: str) -> bool:
    return request_id in await _neighbours(client, router, prompt)


async def _delete(client: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with client.delete(path) as answer:
        return answer.status, await answer.json() if await answer.read() else None


async def _ended_job(client: aiohttp.ClientSession, job_id: str) -> dict[str, Any] | None:
    async with client.get(f"/api/jobs/{job_id}") as answer:
        job: dict[str, Any] = await answer.json()
        return job if job["status"] != "running" else None


async def _has_workflow(world: World, request_id: str) -> bool:
    temporal = await Client.connect(world.temporal_address)
    try:
        await temporal.get_workflow_handle(f"route/admin/{request_id}").describe()
    except RPCError as error:
        return error.status != RPCStatusCode.NOT_FOUND
    return True


async def _gone(world: World, request_id: str) -> bool:
    return not await _has_workflow(world, request_id)


async def _unnamed(world: World, text: str) -> bool:
    """Whether no row of any table has the text."""
    with psycopg.connect(world.database_url) as connection:
        listed = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        query = sql.SQL("SELECT 1 FROM {} AS t WHERE strpos(t::text, %s) > 0 LIMIT 1")
        return not any(connection.execute(query.format(sql.Identifier(name)), (text,)).fetchone() for (name,) in listed)


async def _key(client: aiohttp.ClientSession, user: str) -> str:
    async with client.post("/api/keys", json={"userId": user, "scopes": ["route", "admin"]}) as answer:
        return str((await answer.json())["key"])


async def test_a_request_is_erased(world: World, client: aiohttp.ClientSession) -> None:
    """At once: its row, its workflow; within seconds its point, also in memory, and its id in other decisions. A
    stranger's attempt finds nothing."""
    router, prompt = f"erasing-{secrets.token_hex(4)}", "An erasable question about tea"
    await put_router(client, router, ["sim/small"])
    request_id = await _answered(client, router, prompt)
    await eventually(partial(_learnt, client, router, prompt, request_id), "it was not learnt")
    await _answered(client, router, f"{prompt}, again")  # its decision names the first one
    await eventually(partial(_has_workflow, world, request_id), "it has no workflow")
    stranger = {"authorization": f"Bearer {await _key(client, 'stranger')}"}
    async with client.delete(f"/v1/requests/{request_id}", headers=stranger) as refused:
        assert refused.status == 404
    assert await _delete(client, f"/v1/requests/{request_id}") == (204, None)
    assert await request_view(client, request_id) is None
    assert (await _delete(client, f"/v1/requests/{request_id}"))[0] == 404
    await eventually(partial(_gone, world, request_id), "Temporal keeps its workflow")
    await eventually(partial(_unnamed, world, request_id), "its id is still somewhere")

    async def forgotten() -> bool:
        return not await _learnt(client, router, prompt, request_id)

    await eventually(forgotten, "a gateway remembers it")


async def test_an_answer_is_erased_as_soon_as_it_is_there(world: World, client: aiohttp.ClientSession) -> None:
    """Whoever asks at once waits for its workflow to be closed; the client's name for it goes as well."""
    router = f"erasing-{secrets.token_hex(4)}"
    await put_router(client, router, ["sim/small"])
    status, _ = await ask(client, router, chat("Erased at once"), x_request_id=f"{router}-mine")
    assert status == 200
    assert (await _delete(client, f"/v1/requests/{router}-mine"))[0] == 204
    assert await request_view(client, f"{router}-mine") is None


async def test_a_running_request_is_a_conflict(world: World, client: aiohttp.ClientSession) -> None:
    """It would be recorded by its end."""
    router = f"erasing-{secrets.token_hex(4)}"
    await put_model(client, router, "small+latency25000")
    await put_router(client, router, [router])
    asking = asyncio.create_task(ask(client, router, chat("Slow"), x_request_id=f"{router}-slow"))
    await eventually(partial(request_view, client, f"{router}-slow"), "it did not begin")
    status, error = await _delete(client, f"/v1/requests/{router}-slow")
    assert (status, error["error"]["code"]) == (409, "conflict")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_a_stored_response_is_erased(client: aiohttp.ClientSession) -> None:
    """By its own id."""
    async with client.post("/v1/responses", json={"model": "sim/small", "input": "An erasable response"}) as answer:
        response_id = (await answer.json())["id"]
    assert (await _delete(client, f"/v1/requests/{response_id}"))[0] == 204
    async with client.get(f"/v1/responses/{response_id}") as gone:
        assert gone.status == 404


async def test_an_end_user_is_erased(world: World, client: aiohttp.ClientSession) -> None:
    """By a job, which says how far it is; the name is nowhere afterwards, and the money is still there."""
    name, router = f"person-{secrets.token_hex(4)}@example.org", f"erasing-{secrets.token_hex(4)}"
    await put_router(client, router, ["sim/small"])
    requests = [await _answered(client, router, f"What about tea, {number}?", user=name) for number in range(3)]
    other = await _answered(client, router, "What about tea, all?", user="somebody")
    other_tenant = {"authorization": f"Bearer {await _key(client, 'stranger')}"}
    async with client.delete(f"/api/users/{name}/data", headers=other_tenant) as begun:
        assert begun.status == 202
        theirs = (await begun.json())["id"]
    assert await request_view(client, requests[0]) is not None
    status, job = await _delete(client, f"/api/users/{name}/data")
    assert (status, job["kind"], job["status"]) == (202, "erase", "running")
    assert set(job["progress"]) == {"done", "total"}
    assert (await _delete(client, f"/api/jobs/{theirs}"))[0] in (404, 405)
    assert (await _delete(client, "/api/users/stranger"))[0] == 202
    ended_job = await eventually(partial(_ended_job, client, job["id"]), "the job does not end")
    assert (ended_job["status"], ended_job["progress"]) == ("completed", {"done": 3, "total": 3})
    assert [await request_view(client, request_id) for request_id in requests] == [None] * 3
    assert await request_view(client, other) is not None
    await eventually(partial(_unnamed, world, name), "the name is still somewhere")
    async with client.get("/api/analytics/requests", params={"routerId": router}) as rows:
        assert len((await rows.json())["items"]) == 4


async def test_a_tenant_is_deleted(client: aiohttp.ClientSession, gateway: Gateway) -> None:
    """By an operator or its own admin; its keys stop at once, and nobody else may."""
    tenant = f"tenant-{secrets.token_hex(4)}"
    key, other = await _key(client, tenant), await _key(client, f"{tenant}-b")
    headers = {"authorization": f"Bearer {key}"}
    async with client.get("/api/routers", headers=headers) as there:
        assert there.status == 200
    async with client.delete(f"/api/users/{tenant}", headers={"authorization": f"Bearer {other}"}) as refused:
        assert refused.status == 404
    status, job = await _delete(client, f"/api/users/{tenant}")
    assert status == 202
    async with client.get("/api/routers", headers=headers) as gone:
        assert gone.status == 401
    ended_job = await eventually(partial(_ended_job, client, job["id"]), "the job does not end")
    assert ended_job["status"] == "completed"
    assert (await _delete(client, "/api/users/admin"))[0] == 409


@pytest.mark.parametrize("path", ["/v1/requests/nothing", "/api/users/nobody", "/api/jobs/erase-0123"])
async def test_what_is_not_there(client: aiohttp.ClientSession, path: str) -> None:
    """404, whatever it is."""
    method = "GET" if path.startswith("/api/jobs") else "DELETE"
    async with client.request(method, path) as answer:
        assert answer.status == 404
