"""What routers learn online, in Postgres: one state per router for all gateways, and the answers in it.

A router's state is locked while it is changed, and the grade of an answer is read from its request under that lock:
whoever comes late, twice or in another order leaves the same state behind.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from psycopg.rows import DictRow

from infra.db.engine import Connection, Database
from infra.db.routing.notifications import CHANNEL
from modelpilot.errors import InvalidRequest
from modelpilot.learning.estimation import Learner
from modelpilot.learning.estimation.basis import Basis
from modelpilot.learning.estimation.fitted import pack, unpack
from modelpilot.learning.online import (
    Answer,
    LearnerVersion,
    answer_of,
    basis_may_be_due,
    inherited,
    kept,
    learn,
    own_basis,
)
from modelpilot.learning.refit import MAXIMUM_ROWS
from modelpilot.requests.records import HistoryPoint, HistoryScope, Vector

_LIMIT_S = 60.0
_EMBEDDING = np.dtype("<f4")
_PLAIN = tuple(name for name in Answer.__dataclass_fields__ if name != "embedding")
_MOST_OTHERS = 20  # routers of an owner that a new one inherits of, the latest

_LOCKED = "SELECT * FROM learners WHERE user_id = %s AND router_id = %s FOR UPDATE"
_STATE = "SELECT * FROM learners WHERE user_id = %s AND router_id = %s"
_VERSION = "SELECT version FROM learners WHERE user_id = %s AND router_id = %s"
_OTHERS = """
SELECT * FROM learners WHERE user_id = %s AND router_id <> %s ORDER BY updated_at DESC, router_id LIMIT %s
"""
# A router that is gone by now learns nothing.
_BEGIN = """
INSERT INTO learners (user_id, router_id, version, began_at, updated_at, basis, basis_name, basis_prompts, inherited,
    learnt)
SELECT user_id, id, 0, %(now)s, %(now)s, NULL, %(basis_name)s, 0, %(inherited)s, %(inherited)s FROM routers
WHERE user_id = %(user_id)s AND id = %(router_id)s
ON CONFLICT DO NOTHING
"""
_SAVE = """
UPDATE learners SET version = version + 1, updated_at = %(now)s, learnt = %(learnt)s, inherited = %(inherited)s,
    basis = %(basis)s, basis_name = %(basis_name)s, basis_prompts = %(basis_prompts)s
WHERE user_id = %(user_id)s AND router_id = %(router_id)s
"""
_NOTIFY = "SELECT pg_notify(%s, %s)"

_ANSWERS = "SELECT * FROM learnt_answers WHERE user_id = %s AND router_id = %s AND prompt = ANY(%s)"
_NEWEST = "SELECT * FROM learnt_answers WHERE user_id = %s AND router_id = %s ORDER BY at DESC, request_id LIMIT %s"
_DROP = "DELETE FROM learnt_answers WHERE user_id = %s AND request_id = ANY(%s)"
_PUT = """
INSERT INTO learnt_answers (user_id, request_id, router_id, prompt, model, quality, weight, input_tokens, output_tokens,
    latency_ms, prompt_tokens, at, embedding)
VALUES (%(user_id)s, %(request_id)s, %(router_id)s, %(prompt)s, %(model)s, %(quality)s, %(weight)s, %(input_tokens)s,
    %(output_tokens)s, %(latency_ms)s, %(prompt_tokens)s, %(at)s, %(embedding)s)
ON CONFLICT (user_id, request_id) DO UPDATE SET quality = excluded.quality, weight = excluded.weight
"""
# Weights as `Quality.weight` has them.
_GRADES = """
SELECT request_id, coalesce(quality, 0.0) AS quality, CASE WHEN quality IS NULL THEN 0.0
    ELSE least(quality_confidence / nullif(1.0 - quality_confidence, 0.0), 1.0) END AS weight
FROM requests WHERE user_id = %s AND request_id = ANY(%s)
"""

_TAKE = "SELECT id, user_id, request_id FROM regrades ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"
_TAKEN = "DELETE FROM regrades WHERE id = ANY(%s)"
_ROUTERS = """
SELECT DISTINCT router_id, prompt FROM learnt_answers WHERE user_id = %s AND request_id = ANY(%s)
ORDER BY router_id, prompt
"""
_ORPHANS = """
SELECT a.request_id FROM learnt_answers a
WHERE a.user_id = %s AND a.router_id = %s AND a.prompt = ANY(%s)
    AND NOT EXISTS (SELECT FROM requests r WHERE r.user_id = a.user_id AND r.request_id = a.request_id)
"""
_FORGET_MODEL = "DELETE FROM learnt_answers WHERE user_id = %s AND model = %s"
_OWNED = "SELECT router_id FROM learners WHERE user_id = %s ORDER BY router_id"
NOTE_REGRADED = "INSERT INTO regrades (user_id, request_id) SELECT %(user_id)s::text, unnest(%(ids)s::text[])"


@dataclass(slots=True)
class _State:
    """A router's row, opened."""

    scope: HistoryScope
    learner: Learner
    columns: dict[str, Any]  # beside what was learnt


class PostgresLearners:
    """Implements `modelpilot.learning.online.LearnerStore`. `shipped` are the features for vectors of the embedder in
    use (None: there are none, and routers look at prompts from their own basis on)."""

    def __init__(self, database: Database, shipped: Basis | None) -> None:
        self._database, self._shipped = database, shipped

    async def learn(self, points: Sequence[HistoryPoint]) -> None:
        """Take new answers in, router by router; what was taken in already changes nothing."""
        scopes: dict[HistoryScope, list[Answer]] = defaultdict(list)
        for point in points:
            scopes[point.scope].append(answer_of(point))
        for scope in sorted(scopes, key=lambda each: (each.user_id, each.router_id)):
            async with self._database.transaction(_LIMIT_S) as connection:
                due = await self._learn(connection, scope, scopes[scope], [each.prompt for each in scopes[scope]])
            if due:
                await self.renew(scope)

    async def regrade(self, limit: int) -> int:
        """Take in up to `limit` grades that were revised; how many there were."""
        async with self._database.transaction(_LIMIT_S) as connection:
            notes = await (await connection.execute(_TAKE, (limit,))).fetchall()
            users: dict[str, list[str]] = defaultdict(list)
            for note in notes:
                users[note["user_id"]].append(note["request_id"])
            for user_id in sorted(users):
                prompts: dict[str, list[str]] = defaultdict(list)
                for row in await (await connection.execute(_ROUTERS, (user_id, users[user_id]))).fetchall():
                    prompts[row["router_id"]].append(row["prompt"])
                for router_id, changed in prompts.items():
                    await self._learn(connection, HistoryScope(user_id, router_id), [], changed)
            await connection.execute(_TAKEN, ([note["id"] for note in notes],))
        return len(notes)

    async def forget(self, user_id: str, request_ids: Sequence[str]) -> None:
        """Take these requests out of whatever was learnt of them, exactly as if they had never been made."""
        async with self._database.transaction(_LIMIT_S) as connection:
            rows = await (await connection.execute(_ROUTERS, (user_id, list(request_ids)))).fetchall()
            prompts: dict[str, list[str]] = defaultdict(list)
            for row in rows:
                prompts[row["router_id"]].append(row["prompt"])
            for router_id, changed in prompts.items():
                await self._learn(connection, HistoryScope(user_id, router_id), [], changed, frozenset(request_ids))

    async def recount(self, scope: HistoryScope, prompts: Sequence[str]) -> None:
        """Take out what was learnt of these prompts by requests whose rows are gone: erased, or too old."""
        rows = await self._database.fetch_all(_ORPHANS, (*_key(scope), list(prompts)))
        if rows:
            await self.forget(scope.user_id, [row["request_id"] for row in rows])

    async def forget_model(self, user_id: str, model: str) -> None:
        """Take a deleted model out of all that its owner's routers have learnt: it follows anew from the other answers,
        and from nothing that was inherited."""
        async with self._database.transaction(_LIMIT_S) as connection:
            await connection.execute(_FORGET_MODEL, (user_id, model))
            for row in await (await connection.execute(_OWNED, (user_id,))).fetchall():
                scope = HistoryScope(user_id, row["router_id"])
                state = await self._locked(connection, scope)
                if state is None:
                    continue
                began = Learner(state.learner.basis, state.learner.began)
                state.columns["inherited"], state.learner = began.to_bytes(), began
                await asyncio.to_thread(learn, began, await _newest(connection, scope))
                await _save(connection, state)

    async def renew(self, scope: HistoryScope) -> bool:
        """Make the router's features of its own prompts where there are enough; whether it was done."""
        async with self._database.transaction(_LIMIT_S) as connection:
            state = await self._locked(connection, scope)
            if state is None:
                return False
            answers = await _newest(connection, scope)
            vectors = _prompts(answers)
            basis = await asyncio.to_thread(own_basis, vectors, state.columns["basis_prompts"])
            if basis is None:
                return False
            began = Learner(basis, state.learner.began)
            with suppress(InvalidRequest):  # of another release or embedder: the router's own answers have to do
                old = Learner.from_bytes(state.columns["inherited"], state.learner.basis, began.began)
                began.merge(old, 1.0, began.began)
            state.columns = {
                "basis": pack(basis),
                "basis_name": basis.name,
                "basis_prompts": len(vectors),
                "inherited": began.to_bytes(),
            }
            state.learner = began
            await asyncio.to_thread(learn, began, answers)
            await _save(connection, state)
        return True

    async def state(self, scope: HistoryScope, than: int | None = None) -> LearnerVersion | None:
        """The newest state, if it is newer than version `than`; of a router without one, what others know."""
        async with self._database.connection() as connection:
            if than is not None:
                found = await (await connection.execute(_VERSION, _key(scope))).fetchone()
                if (found["version"] if found else 0) <= than:
                    return None
            row = await (await connection.execute(_STATE, _key(scope))).fetchone()
            if row is None:
                known, now = await self._inherited(connection, scope, None)
                return LearnerVersion(0, now, known)
            return LearnerVersion(row["version"], row["updated_at"], await self._opened(connection, row))

    async def _learn(
        self,
        connection: Connection,
        scope: HistoryScope,
        new: Sequence[Answer],
        prompts: Sequence[str],
        gone: frozenset[str] = frozenset(),
    ) -> bool:
        """Have the prompts in the state as they are by now, and not as they were; whether features may be due."""
        state = await self._locked(connection, scope, begin=bool(new))
        if state is None:
            return False
        rows = await (await connection.execute(_ANSWERS, (*_key(scope), sorted(set(prompts))))).fetchall()
        before = {row["request_id"]: _answer(row) for row in rows}
        known = {**{each.request_id: each for each in new}, **before}
        now = kept(await _graded(connection, scope, [each for name, each in known.items() if name not in gone]))
        after = {each.request_id: each for each in now}
        changed = [each for name, each in after.items() if name not in before or _differs(before[name], each)]
        dropped = [name for name in before if name not in after]
        if not changed and not dropped:
            return False
        answers = float(state.learner.measured.weight.sum())
        await asyncio.to_thread(_replace, state.learner, list(before.values()), now)
        await connection.execute(_DROP, (scope.user_id, dropped))
        async with connection.cursor() as cursor:
            await cursor.executemany(_PUT, [_columns(scope, each) for each in changed])
        await _save(connection, state)
        return basis_may_be_due(answers, float(state.learner.measured.weight.sum()))

    async def _locked(self, connection: Connection, scope: HistoryScope, begin: bool = False) -> _State | None:
        row = await (await connection.execute(_LOCKED, _key(scope))).fetchone()
        if row is None and begin:
            known, now = await self._inherited(connection, scope, time.time())
            params = {"now": now, "basis_name": _name(self._shipped), "inherited": known.to_bytes()}
            await connection.execute(_BEGIN, {"user_id": scope.user_id, "router_id": scope.router_id, **params})
            row = await (await connection.execute(_LOCKED, _key(scope))).fetchone()
        if row is None:
            return None
        learner = await self._opened(connection, row)
        columns = {name: row[name] for name in ("basis", "basis_prompts")}
        return _State(scope, learner, {**columns, "basis_name": _name(learner.basis), "inherited": row["inherited"]})

    async def _inherited(self, connection: Connection, scope: HistoryScope, now: float | None) -> tuple[Learner, float]:
        rows = await (await connection.execute(_OTHERS, (*_key(scope), _MOST_OTHERS))).fetchall()
        began = max((row["updated_at"] for row in rows), default=0.0) if now is None else now
        return inherited(self._shipped, [await self._opened(connection, row) for row in rows], began), began

    async def _opened(self, connection: Connection, row: DictRow) -> Learner:
        """The learner of a row; from its answers where another release, or another embedder, wrote it."""
        with suppress(InvalidRequest):
            basis = self._shipped if row["basis"] is None else unpack(Basis, bytes(row["basis"]))
            if _name(basis) == row["basis_name"]:
                return await asyncio.to_thread(Learner.from_bytes, bytes(row["learnt"]), basis, row["began_at"])
        answers = await _newest(connection, HistoryScope(row["user_id"], row["router_id"]))
        learner = Learner(self._shipped, row["began_at"])
        await asyncio.to_thread(learn, learner, answers)
        return learner


def _replace(learner: Learner, before: Sequence[Answer], after: Sequence[Answer]) -> None:
    learn(learner, before, -1.0)
    learn(learner, after)


async def _save(connection: Connection, state: _State) -> None:
    """Write the state as the next version and announce it, with the transaction."""
    scope = state.scope
    written = {"now": time.time(), "learnt": state.learner.to_bytes()}
    key = {"user_id": scope.user_id, "router_id": scope.router_id}
    await connection.execute(_SAVE, {**key, **written, **state.columns})
    await connection.execute(_NOTIFY, (CHANNEL, f"predictor:{scope.user_id}:{scope.router_id}"))


async def _graded(connection: Connection, scope: HistoryScope, answers: Sequence[Answer]) -> list[Answer]:
    """The answers with what is said of them by now."""
    names = [answer.request_id for answer in answers]
    rows = await (await connection.execute(_GRADES, (scope.user_id, names))).fetchall()
    grades = {row["request_id"]: {"quality": row["quality"], "weight": row["weight"]} for row in rows}
    return [replace(answer, **grades.get(answer.request_id, {})) for answer in answers]


async def _newest(connection: Connection, scope: HistoryScope) -> list[Answer]:
    rows = await (await connection.execute(_NEWEST, (*_key(scope), MAXIMUM_ROWS))).fetchall()
    return [_answer(row) for row in rows]


def _prompts(answers: Sequence[Answer]) -> list[Vector]:
    """The vector of each prompt, those of the embedder in use: of an older one there may be others."""
    found = {answer.prompt: answer.embedding for answer in reversed(answers)}
    length = len(answers[0].embedding) if answers else 0
    return [vector for _, vector in sorted(found.items()) if len(vector) == length]


def _differs(before: Answer, after: Answer) -> bool:
    return (before.quality, before.weight) != (after.quality, after.weight)


def _key(scope: HistoryScope) -> tuple[str, str]:
    return scope.user_id, scope.router_id


def _name(basis: Basis | None) -> str:
    return "" if basis is None else basis.name


def _answer(row: DictRow) -> Answer:
    embedding = np.frombuffer(row["embedding"], _EMBEDDING).astype(np.float32)
    return Answer(**{name: row[name] for name in _PLAIN}, embedding=embedding)


def _columns(scope: HistoryScope, answer: Answer) -> dict[str, Any]:
    embedding = np.asarray(answer.embedding, _EMBEDDING).tobytes()
    plain = {name: getattr(answer, name) for name in _PLAIN}
    return {"user_id": scope.user_id, "router_id": scope.router_id, "embedding": embedding, **plain}
