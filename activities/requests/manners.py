"""How a call is made at a deployment: the body fitted to the model's manners, and what refusals have taught about
servers that nobody has looked at.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from activities.requests.deployments import Target
from modelpilot.chat.profile import RequestProfile
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.fitting import AnswerLimits, asks_whole, fit, learnt_from_refusal
from modelpilot.providers.manners import Manners, manners_of, service_of
from modelpilot.requests.outcome import Adjustment, ProviderError, Remedy
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.jsonb import JsonObject

# Then it is tried again: the server may have been replaced by one that knows more.
KEEP_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call as the model takes it; `whole`: a whole answer is asked for instead of a stream."""

    body: JsonObject
    manners: Manners
    whole: bool
    adjusted: tuple[Adjustment, ...]


class LearntManners:
    """Prepares calls. What refusals teach is kept by deployment, in memory, for `keep_s`; of at most `maximum`
    deployments, beyond which the oldest go."""

    def __init__(
        self, keep_s: float = KEEP_S, clock: Callable[[], float] = time.monotonic, maximum: int = 10_000
    ) -> None:
        self._keep_s, self._clock, self._maximum = keep_s, clock, maximum
        self._known: dict[Target, tuple[float, Manners]] = {}

    def of(self, target: Target) -> Manners | None:
        """What refusals of a deployment have taught; None: nothing."""
        if not self._known:
            return None
        until, manners = self._known.get(target, (0.0, None))
        return manners if self._clock() < until else None

    def prepare(
        self,
        target: Target,
        spec: ModelSpec,
        endpoint: ProviderEndpoint,
        profile: RequestProfile,
        *,
        prompt_tokens: int | None = None,
        streamed: bool,
        whole: bool,
    ) -> Prepared:
        """The request for a deployment; `prompt_tokens`: as the model counts them (None: as we do); `streamed`:
        somebody waits for a stream; `whole`: whole answers are wanted in any case. Raises ProviderError where the model
        has nothing for what the request means."""
        name = target.deployment.provider_model
        said = endpoint.parameters, spec.parameters, self.of(target)
        manners = manners_of(endpoint.kind, service_of(endpoint.base_url), name, *said)
        limits = AnswerLimits.of(spec, manners, profile.prompt_tokens if prompt_tokens is None else prompt_tokens)
        fitted = fit(profile.body, endpoint.kind, manners, limits)
        if fitted.changes and (fields := fitted.excluded):
            message = f"this provider cannot honour: {', '.join(fields)}"
            raise ProviderError("bad_request", message, Remedy.FALL_BACK, refused="request")
        whole = whole or asks_whole(fitted.body, manners, streamed=streamed)
        return Prepared(fitted.body, manners, whole, fitted.adjusted(spec.id) if fitted.changes else ())

    def learn(self, target: Target, sent: Prepared, error: ProviderError) -> bool:
        """Whether the refusal of a call taught that the server has other manners, in which it may be asked at once."""
        if error.error_type != "bad_request" or error.http_status not in (400, 422):
            return False
        learnt = learnt_from_refusal(f"{error.param or ''} {error.message}", sent.body, sent.manners, whole=sent.whole)
        known = self.of(target)
        if learnt is None or (known is not None and known.limit_name is not None and learnt.limit_name is not None):
            return False
        if target not in self._known and len(self._known) >= self._maximum:
            del self._known[next(iter(self._known))]
        self._known[target] = self._clock() + self._keep_s, learnt if known is None else learnt.over(known)
        return True
