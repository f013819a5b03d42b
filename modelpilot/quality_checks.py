"""Deterministic quality of an answer, computed at request time, so that it exists where no text is stored.

A check that can prove an answer right or wrong gives 1 or 0. Fluent text that nothing speaks against stays unknown
(None): calling it right would teach the router that every model is perfect.
"""

import json
import re
from typing import Any

TRUNCATED_QUALITY = 0.5  # the part that came may still be of use

_REFUSAL = re.compile(
    r"^\s*(i['’]?m sorry,? but i|i (can(no|['’])t|am (not able|unable) to) (assist|help|comply|do that|provide)"
    r"|as an ai( language model)?,? i (can(no|['’])t))",
    re.IGNORECASE,
)


def answer_quality(body: dict[str, Any], answer: dict[str, Any]) -> float | None:
    """Quality in [0, 1] of the first choice, or None where the checks cannot tell."""
    choices = answer.get("choices") or []
    if not choices:
        return 0.0
    message = choices[0].get("message") or {}
    calls = message.get("tool_calls") or []
    if calls:
        return 1.0 if _tool_calls_valid(body, calls) else 0.0
    text = message.get("content") or ""
    if message.get("refusal") or _REFUSAL.search(text) or not text.strip():
        return 0.0
    if choices[0].get("finish_reason") == "length":
        return TRUNCATED_QUALITY
    if (body.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
        return 1.0 if _parses(text) is not None else 0.0
    return None


def _parses(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _tool_calls_valid(body: dict[str, Any], calls: list[dict[str, Any]]) -> bool:
    offered = {(tool.get("function") or {}).get("name") for tool in body.get("tools") or []}
    functions = [call.get("function") or {} for call in calls]
    return all(f.get("name") in offered and _parses(f.get("arguments") or "{}") is not None for f in functions)
