"""How much a model reasons, in the words that it knows."""

from modelpilot.providers.fields import Fitting
from modelpilot.wire.jsonb import JsonObject, as_object
from modelpilot.wire.support import output_limit, reasoning_effort

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_MIDDLE = EFFORTS.index("medium")


def fit_reasoning(fitting: Fitting, ceiling: int | None) -> None:
    """The effort that comes nearest to the asked one; none where the model does not reason, or cannot here."""
    manners = fitting.manners
    if _is_said_twice(fitting):
        fitting.remove("thinking")
    _fit_thinking(fitting, ceiling)
    body = fitting.body
    effort = reasoning_effort(fitting.body)
    if effort is None:
        return
    named = "reasoning_effort" if "reasoning_effort" in body else "reasoning"
    allowed = manners.efforts
    if manners.efforts_with_tools is not None and body.get("tools"):
        allowed = manners.efforts_with_tools
    found = effort if allowed is None else _nearest(effort, allowed)
    reason = "the model does not reason" if not allowed else "it knows no such effort"
    if found not in (None, "none") and (hindered := _no_room_to_think(fitting)):
        found, reason = None, hindered
    if found is None:
        fitting.remove("reasoning")
        fitting.remove("reasoning_effort")
        if effort != "none":
            fitting.say(named, "dropped", reason)
    elif found != effort or (named == "reasoning" and not manners.has("reasoning")):
        fitting.remove("reasoning")
        fitting.put("reasoning_effort", found)
        if found != effort:
            fitting.say(named, "clamped", f"{found} is the nearest effort that the model knows")


def _is_said_twice(fitting: Fitting) -> bool:
    """Whether an effort stands beside a budget that the model takes no number of."""
    budgets = fitting.manners.thinking == "budget" and fitting.manners.takes is not None
    return "thinking" in fitting.body and "reasoning_effort" in fitting.body and not budgets


def _nearest(effort: str, allowed: tuple[str, ...]) -> str | None:
    if effort in allowed:
        return effort
    if effort not in EFFORTS or not allowed:
        return None
    place = EFFORTS.index(effort)
    # Of two that are as near, the one towards the middle: minimal is not none.
    return min(allowed, key=lambda known: (abs(EFFORTS.index(known) - place), abs(EFFORTS.index(known) - _MIDDLE)))


def _no_room_to_think(fitting: Fitting) -> str | None:
    """Why a model that reasons cannot do so in this request: meaning comes first."""
    body, manners = fitting.body, fitting.manners
    choice, limit = body.get("tool_choice"), output_limit(body)
    forced = body.get("tools") and (choice == "required" or isinstance(choice, dict))
    if forced and manners.thinks_with_forced_tools is False:
        return "not beside a forced tool choice"
    fewest = manners.thinking_budget[0] if manners.thinking == "budget" and manners.thinking_budget else 0
    if limit is not None and limit <= fewest:
        return f"the answer's limit leaves no room for the smallest budget ({fewest} tokens)"
    return None


def _fit_thinking(fitting: Fitting, ceiling: int | None) -> None:
    """Anthropic's own `thinking`, in the form that the model takes."""
    thinking, manners = as_object(fitting.body.get("thinking")), fitting.manners
    kind = thinking.get("type")
    if kind not in ("enabled", "adaptive") or manners.takes is None or not manners.has("thinking"):
        return
    if manners.efforts == () or (hindered := _no_room_to_think(fitting)):
        fitting.remove("thinking")
        fitting.say("thinking", "dropped", "the model does not reason" if manners.efforts == () else str(hindered))
    elif kind == "enabled" and manners.thinking == "adaptive":
        fitting.put("thinking", {"type": "adaptive"})
        fitting.say("thinking", "translated", "the model sets its budget itself")
    elif kind == "adaptive" and manners.thinking == "budget":
        fitting.remove("thinking")
        fitting.put("reasoning_effort", fitting.body.get("reasoning_effort") or "high")
        fitting.say("thinking", "translated", "the model needs a budget")
    elif kind == "enabled" and manners.thinking_budget is not None:
        _fit_budget(fitting, thinking, manners.thinking_budget, output_limit(fitting.body) or ceiling)


def _fit_budget(fitting: Fitting, thinking: JsonObject, bounds: tuple[int, int], limit: int | None) -> None:
    wanted = thinking.get("budget_tokens")
    most = bounds[1] if limit is None else min(bounds[1], limit - 1)
    if isinstance(wanted, int) and (fits := max(min(wanted, most), bounds[0])) != wanted:
        fitting.put("thinking", {**thinking, "budget_tokens": fits})
        fitting.say("thinking", "clamped", f"a budget of {bounds[0]} to {most} tokens is possible")
