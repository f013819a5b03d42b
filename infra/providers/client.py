"""What all provider clients share: one HTTP call, read as OpenAI chunks until the answer is whole."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator

from infra.providers.answer import Answer, Patience
from infra.providers.http import ProviderHttp, UpstreamRequest
from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.requests.ports import ProviderCall
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.reader import AnswerReader, StreamDecoder


class ChatClient(ABC):
    """A `ProviderClient`; a subclass says what to send and how to read what comes back. It never retries."""

    def __init__(self, http: ProviderHttp) -> None:
        self._http = http

    @abstractmethod
    def upstream(self, call: ProviderCall) -> UpstreamRequest:
        """The request that `call` becomes."""

    @abstractmethod
    def decoder(self, call: ProviderCall) -> StreamDecoder:
        """A fresh decoder for the answer to `call`."""

    def unsupported(self, body: JsonObject) -> list[str]:
        """The fields of `body` that this provider cannot honour."""
        del body
        return []

    async def stream_chat(self, call: ProviderCall) -> AsyncGenerator[JsonObject, None]:
        """Yield OpenAI chunks, usage included, and end only when the answer is complete. Raises ProviderError.

        Closing the generator cancels the call at the provider.
        """
        if fields := self.unsupported(call.body):
            message = f"this provider cannot honour: {', '.join(fields)}"
            raise ProviderError("bad_request", message, Remedy.FALL_BACK)
        patience = Patience(call.first_token_ms, call.idle_ms, call.connect_ms)
        reader = AnswerReader(self.decoder(call))
        async with self._http.answer(self.upstream(call), patience) as answer:
            while not answer.whole:
                for chunk in await _next_chunks(answer, reader, patience):
                    yield chunk


async def _next_chunks(answer: Answer, reader: AnswerReader, patience: Patience) -> list[JsonObject]:
    """What the next bytes hold; `answer.whole` is set when nothing more is needed."""
    try:
        piece = await answer.read(patience)
    except ProviderError:
        if not reader.complete:
            raise
        # The answer is whole: silence or a reset behind it costs the usage at most.
        answer.whole = True
        return []
    chunks = reader.feed(piece) if piece else reader.finish()
    answer.whole = reader.ended or not piece
    if reader.complete:
        patience.hurry()
    elif reader.begun and reader.progressed:
        patience.heard()
    return chunks
