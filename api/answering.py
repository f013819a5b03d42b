"""Submitting a request and answering it, whole or as a stream, in the client's wire format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from activities.requests.failures import outcome_error
from api.accepted import Incoming, Submission
from api.answers import Headers, answer_headers, modelpilot_object
from api.middleware import REQUEST_ID
from api.responses import json_response
from api.streaming import AnswerStream
from api.submissions import Submissions
from modelpilot.errors import NotFound

SUBMISSIONS: web.AppKey[Submissions] = web.AppKey("submissions", Submissions)

_EXPLAIN_HEADER = "x-modelpilot-explain"


class StreamMaker(Protocol):
    """Makes the stream of one answer, in its format."""

    def __call__(
        self,
        http_request: web.Request,
        submissions: Submissions,
        submission: Submission,
        *,
        explain: bool,
        headers: Headers,
    ) -> AnswerStream:
        """The stream, not begun."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """How answers look: `whole` makes the body of a completion, without our object; `headers` are further ones."""

    whole: Callable[[dict[str, Any]], dict[str, Any]]
    stream: StreamMaker
    headers: Callable[[str], Headers] = lambda request_id: {}


async def answer(request: web.Request, incoming: Incoming, form: Format) -> web.StreamResponse:
    """Submit `incoming` and write its answer. Raises what stands in its way, and the outcome's error."""
    submissions = request.app[SUBMISSIONS]
    submission = await submissions.submit(incoming)
    request[REQUEST_ID] = submission.key.request_id
    try:
        if incoming.checked.stream:
            return await _stream(request, submission, form)
        return await _whole(request, submission, form)
    except BaseException:
        # Cancellation (the client left) above all; whatever else ends the handler ends the spending too.
        await submissions.abandon(submission)
        raise


async def _whole(request: web.Request, submission: Submission, form: Format) -> web.StreamResponse:
    outcome, record = await request.app[SUBMISSIONS].outcome(submission)
    if outcome.status != "completed":
        raise outcome_error(outcome, record.key.request_id)
    if outcome.answer is None:
        raise NotFound("The answer is no longer retained (MODELPILOT_RESULT_RETENTION_HOURS)")
    described = modelpilot_object(record, outcome, explain=_wants_explanation(request))
    headers = {**answer_headers(record, outcome), **form.headers(record.key.request_id)}
    return json_response({**form.whole(outcome.answer), "modelpilot": described}, headers=headers)


async def _stream(request: web.Request, submission: Submission, form: Format) -> web.StreamResponse:
    flight = submission.flight
    model = flight.request.plan.model if flight else submission.record.outcome.model if submission.record else ""
    stream = form.stream(
        request,
        request.app[SUBMISSIONS],
        submission,
        explain=_wants_explanation(request),
        headers={"x-modelpilot-model": model, **form.headers(submission.key.request_id)},
    )
    return await stream.run()


def _wants_explanation(request: web.Request) -> bool:
    return request.headers.get(_EXPLAIN_HEADER, "").lower() == "true"
