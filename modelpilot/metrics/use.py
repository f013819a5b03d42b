"""How models, their deployments and routers are used: what each did, what it costs, how it fares.

The circuit breakers live in the gateways' memory. The site sees only the database, so it judges deployments by the
calls of the last hour, which is what a breaker saw, but not what it made of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, TypeAlias

from modelpilot.metrics.explore import Answer

# What the page of models asks: of each model over the range, and of each model by time.
MODEL_METRICS = ("completed", "p50", "p95", "cost", "quality")
HEAT_METRIC = "p95"
# Versions that the site lists; older ones are in the API.
MOST_VERSIONS = 200

# Health is judged by the calls of so many seconds.
HEALTH_S = 3_600.0
# As much as the breakers take for trouble; a single failure of a quiet deployment says nothing yet.
FAILING_SHARE, TROUBLED_SHARE, LEAST_CALLS = 0.5, 0.05, 3

Health = Literal["idle", "healthy", "troubled", "rate limited", "failing", "key refused"]


@dataclass(frozen=True, slots=True)
class DeploymentUse:
    """The calls of one model at one place. `recent_*` are those of the last hour, the others those of the range (which
    may lie before it).

    `last_error` is the type of the newest call's failure, None where that call went well.
    """

    model: str
    provider: str
    deployment: str
    calls: int = 0
    rate_limited: int = 0
    recent_calls: int = 0
    recent_errors: int = 0
    recent_rate_limited: int = 0
    recent_refused: int = 0
    last_call_s: float | None = None
    last_error: str | None = None

    @property
    def health(self) -> Health:
        """A verdict on the last hour. The worst that applies; a key counts as refused until a call goes well again."""
        if not self.recent_calls:
            return "idle"
        if self.recent_refused and self.last_error in ("authentication", "permission"):
            return "key refused"
        share = self.recent_errors / self.recent_calls
        if share >= FAILING_SHARE and self.recent_calls >= LEAST_CALLS:
            return "rate limited" if self.recent_rate_limited * 2 > self.recent_errors else "failing"
        if self.recent_rate_limited:
            return "rate limited"
        return "troubled" if share >= TROUBLED_SHARE else "healthy"


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """A deployment that gateways skip or only probe. `because`: why, where its breaker is closed; times are Unix
    seconds. `gateways` say so; of several, the state is the worst, the times are the earliest."""

    user_id: str
    provider: str
    model: str
    deployment: str
    state: Literal["closed", "half_open", "open"]
    because: str | None
    open_since_s: float | None
    next_probe_s: float
    gateways: int = 1


@dataclass(frozen=True, slots=True)
class Price:
    """What the catalogue says of a model, USD per token, None: unknown. `owner` "": the shared catalogue.

    `since` is the day from which on the price counts, `source` who says so: for a model of its owner's the day on which
    that was last changed, for one of the shared catalogue what the source of its prices knows (None: nothing).
    """

    model: str
    owner: str
    input_usd: float | None
    output_usd: float | None
    source: str
    since: date | None = None


@dataclass(frozen=True, slots=True)
class PriceOrigin:
    """Where prices of the shared catalogue come from, and the day from which on they count (None: unknown)."""

    source: str
    since: date | None = None


# The origin of a model's price by its id, and its input and output prices (USD per token, None: unknown).
FindOrigin: TypeAlias = Callable[[str, float | None, float | None], PriceOrigin]


@dataclass(frozen=True, slots=True)
class ModelsRead:
    """`by_model` answers `MODEL_METRICS` by model, `over_time` answers `HEAT_METRIC` by model and bucket."""

    by_model: Answer = field(default_factory=Answer)
    over_time: Answer = field(default_factory=Answer)
    deployments: tuple[DeploymentUse, ...] = ()
    prices: tuple[Price, ...] = ()
    states: tuple[DeploymentState, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictorState:
    """What was fitted for a router. `version`, `fitted_at` and `rows` are of the one in use (None: none is).

    `refused_at` and `refused_because` are there where the newest fit was refused. Times are Unix seconds.
    """

    version: int | None = None
    fitted_at: float | None = None
    rows: int | None = None
    refused_at: float | None = None
    refused_because: str | None = None


NO_PREDICTOR = PredictorState()


@dataclass(frozen=True, slots=True)
class RouterUse:
    """A router as it stands, and its requests in a range of time. `body` is its camelCase JSON, times are Unix seconds.

    `cost_usd` adds up the known costs; `unknown_cost` counts the completed requests whose cost nobody knows.
    """

    user_id: str
    router_id: str
    body: Mapping[str, Any]
    version: int
    created_at: float
    updated_at: float
    requests: int = 0
    cost_usd: float = 0.0
    unknown_cost: int = 0
    predictor: PredictorState = NO_PREDICTOR


@dataclass(frozen=True, slots=True)
class RouterVersion:
    """A router at one version: when it was made, and by whom (an API key's name, a user of the site, a command)."""

    version: int
    made_at: float
    made_by: str
    body: Mapping[str, Any]
