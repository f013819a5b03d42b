"""One gateway's core over fakes: registry, controller, recovery, submissions, activities."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from activities.decision_steps import DecisionSteps
from activities.flights import FlightController
from activities.inflight import BackgroundTasks, ChunkSink, Flight, FlightRegistry
from activities.model_calls import ModelCaller
from activities.performance import PerformanceActivities
from activities.providers import ProviderActivities
from activities.recovery import Recovery, snapshot_of
from activities.router_cache import RouterCache
from activities.routing import RoutingActivities
from api.submissions import Incoming, Submissions
from infra.crypto.keyring import Keyring
from modelpilot.catalogue import ModelSpec
from modelpilot.chat import ChatBody
from modelpilot.messages import RouteRequestInput
from modelpilot.profile import profile_request
from modelpilot.provider_errors import ProviderError, Remedy
from modelpilot.records import RouterSnapshot
from tests.support import fakes
from tests.support.routing_samples import PRINCIPAL, chat_body, router, snapshot, spec, stream

A = spec("sim/a", quality_score=0.9)
B = spec("sim/b", quality_score=0.5)
C = spec("sim/c", quality_score=0.4)

# Base64 of thirty-two equal bytes: a key that protects nothing.
TEST_KEYRING = Keyring(["bW9kZWxwaWxvdCB0ZXN0IGtleSwgbm90IHNlY3JldCE="])


def error(kind: str = "server_error", remedy: Remedy = Remedy.FALL_BACK, **details: Any) -> ProviderError:
    """A failed call."""
    return ProviderError(kind, f"the provider says {kind}", remedy, **details)


def ABC_ROUTER(**changes: Any) -> RouterSnapshot:  # noqa: N802 - replaced below
    """Unused."""
    return snapshot(router("sim/a", **changes), A, B, C)
