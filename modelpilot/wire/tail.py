"""What may be the end of an answer is kept back until it is, so that no client takes a part for the whole.

Some servers send a finish reason with their first chunk, or with every one, and many clients stop reading there.
"""

from modelpilot.wire.chunks import Chunk
from modelpilot.wire.jsonb import JsonObject


class Tail:
    """The chunks from the last finish reason on. They leave as they came, unless the answer went on behind them."""

    __slots__ = ("_early", "_kept")

    def __init__(self) -> None:
        self._kept: list[Chunk] = []
        self._early: dict[int, JsonObject] = {}  # choice → its newest finish reason that was too early, as a chunk

    def take(self, chunk: Chunk, *, output: bool) -> list[Chunk]:
        """What may leave now that `chunk` came, of an answer every choice of which has a finish reason."""
        ready = self.overtaken() if output else []
        if self._kept or _ends(chunk):
            self._kept.append(chunk)
            return ready
        return [*ready, chunk]

    def keep(self, chunk: Chunk) -> None:
        """Let `chunk` leave at the end."""
        self._kept.append(chunk)

    def overtaken(self) -> list[Chunk]:
        """All that was kept, without its finish reasons: the answer goes on, or has failed."""
        kept, self._kept = self._kept, []
        return [self._opened(chunk) if _ends(chunk) else chunk for chunk in kept]

    def end(self) -> list[Chunk]:
        """All that was kept. An early finish reason stands where no later one came."""
        kept, self._kept = self._kept, []
        named = {choice.get("index") or 0 for chunk in kept for choice in _ends(chunk)}
        return [*(Chunk(early) for index, early in self._early.items() if index not in named), *kept]

    def _opened(self, chunk: Chunk) -> Chunk:
        identity = {key: value for key, value in chunk.data.items() if key not in ("choices", "usage")}
        for choice in _ends(chunk):
            last = {key: value for key, value in choice.items() if key != "logprobs"}
            self._early[choice.get("index") or 0] = {**identity, "choices": [{**last, "delta": {}}]}
        choices = [{**choice, "finish_reason": None} for choice in chunk.data["choices"]]
        return Chunk({**chunk.data, "choices": choices})


def _ends(chunk: Chunk) -> list[JsonObject]:
    """The choices with a finish reason."""
    return [choice for choice in chunk.data["choices"] if choice.get("finish_reason")]
