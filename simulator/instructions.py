"""Simple instructions about the answer's form, in the system prompt or the task: obeyed to the letter. Pure."""

import re

from simulator.talk import Talk

_MOST_BESIDE_TOOLS = 4_000  # characters: an agent's long system prompt is about its tools, not about this answer
_QUOTE = r"\"([^\"\n]+)\"|'([^'\n]+)'|`([^`\n]+)`"
_START = r"(?:^|[.!?\n]\s*|\b(?:and|but|please)\s+)(?:you must\s+|please\s+|always\s+)*"
_EXACTLY = re.compile(_START + r"(?:reply|respond|answer) with exactly:\s*([^\n]+)", re.IGNORECASE)
_ONLY = re.compile(
    _START
    + r"(?:only )?(?:answer|reply|respond)(?: only)? with(?: only)? (?:the words? )?(?:"
    + _QUOTE
    + r"|([^.!?\n]{1,100}))",
    re.IGNORECASE,
)
_ENDS = re.compile(
    _START + r"(?P<where>end|finish|begin|start) (?:every|each|all(?: of)?|your) (?:your )?(?:answers?|repl(?:y|ies)|"
    r"responses?|messages?) with (?:the words? )?(?:" + _QUOTE + r"|([^.!?\n]{1,100}[.!?]?))",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def system_of(talk: Talk, tools: bool) -> str:
    """The system prompt, as far as it is about the answer's form."""
    return "" if tools and len(talk.system) > _MOST_BESIDE_TOOLS else talk.system


def ordered(system: str) -> str | None:
    """Return the exact answer that a system prompt orders, or None."""
    if "exactly" in system and (match := _EXACTLY.search(system)):
        return match[1].strip()
    return None


def obeyed(text: str, talk: Talk, system: str) -> str:
    """Return the answer `text` in the form that the system prompt or the task asks for."""
    for source in (system, talk.task):
        lower = source.lower()
        if "only" in lower and (match := _ONLY.search(source)) and "only" in match[0].lower():
            text = _only(text, _given(match), talk)
        if " with " in lower and ("every" in lower or "each" in lower or " your " in lower or " all " in lower):
            for match in _ENDS.finditer(source):
                wanted = _given(match)
                text = f"{text} {wanted}" if match["where"].lower() in ("end", "finish") else f"{wanted} {text}"
    return text


def _given(match: re.Match[str]) -> str:
    return next(found for found in match.groups()[-4:] if found is not None).strip()


def _only(text: str, wanted: str, talk: Talk) -> str:
    lower = wanted.lower()
    if "yes" in lower and "no" in lower:
        return "Yes" if "wrong" not in talk.lower and " not " not in talk.lower else "No"
    if "number" in lower or "digits" in lower:
        numbers = _NUMBER.findall(text)
        return numbers[-1] if numbers else "0"
    if lower.startswith(("one word", "a single word", "a word", "a one-word")):
        words = re.findall(r"\w+", text)
        return words[-1] if words else "nothing"
    if "json" in lower:
        return text  # its own rule
    return wanted
