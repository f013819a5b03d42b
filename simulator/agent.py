"""Which tools are called next for a task, step by step. Pure.

A task may hold a script, lines `call TOOL {"json": "arguments"}`, or say in words what to do ("First read a.txt, then
write b.txt"). The calls that were made since the task are subtracted; when none is left, the answer is text.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from simulator.request import Tool
from simulator.talk import Talk
from simulator.values import Values, kind_of, words_of

FEW_TOOLS = 8  # Up to so many, one word of a tool's name is enough; agents send more, and mean all of its words.
_MOST_AT_ONCE = 8
_MOST_STEPS = 50
_MOST_LINES = 200  # that begin like one of a script
_SCRIPT = re.compile(r"^[ \t>*-]*call[ \t]+(?=[\w-])", re.MULTILINE)
_SCRIPTED = re.compile(r"(?:call[ \t]+)?([\w.:/-]+)[ \t]*")
_ALSO = re.compile(r"[ \t]*&[ \t]*(?=[\w-])")
_STEP = re.compile(
    r"(?:,\s*)?\b(?:and\s+)?then\b|\bafter(?:wards|\s+that)\b|\bfinally\b|\bnext,|;|\n\s*(?:\d+[.)]|[-*])\s",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z][a-z0-9]+")
_ENDINGS = ("s", "es", "d", "ed", "ing", "er", "r")
# Words of names that say nothing, and those of ordinary talk, which descriptions share with any prompt.
_PLAIN = frozenset({"get", "set", "the", "tool", "for", "and", "use", "run"})
_TALK = frozenset(
    _WORD.findall(
        "this that with from have your what which when where will would could should about into over them they then "
        "than also just only some such more most other each every used using user given returns return tool tools "
        "function please hello tell know want need like does make made many much very good time information current "
        "specified based performs perform allows allow provides provide explain describe how"
    )
)
_FILES = frozenset({"file", "files", "directory", "dir", "folder", "path"})
_PAGES = frozenset({"web", "url", "page"})
_MEANS = {
    "open": ("read", "view"), "show": ("read", "view"), "print": ("read",), "list": ("ls", "glob"),
    "create": ("write",), "save": ("write",), "change": ("edit", "replace", "update"), "replace": ("edit", "update"),
    "find": ("search", "grep", "glob"), "search": ("grep", "find"), "look": ("search",), "download": ("fetch",),
    "run": ("bash", "shell", "exec", "execute", "terminal"), "execute": ("bash", "shell", "exec", "terminal"),
    "times": ("multiply",), "plus": ("add", "sum"), "minus": ("subtract",), "divided": ("divide",),
}  # fmt: skip
_SUM = re.compile(r"\d\s*([-+*/x\u00d7\u00f7])\s*\d")
_SIGNS = {
    "+": ("add", "sum", "plus"), "-": ("subtract", "minus"), "*": ("multiply", "product", "times"),
    "/": ("divide", "quotient"),
}  # fmt: skip
_CALCULATORS = ("calculator", "calculate", "calc", "math", "arithmetic", "evaluate", "compute")
_CLOSING = frozenset({"final", "finish", "submit", "done", "completion", "respond"})
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Planned:
    """A call to come: the tool, and the text that its arguments come from, or the arguments themselves.

    `place` is its place, from 0, among the calls alike of its step: each takes another of the text's values.
    """

    tool: Tool
    about: str
    arguments: Mapping[str, Any] | None = None
    place: int = 0


Step = list[Planned]


def next_calls(talk: Talk, tools: Sequence[Tool], choice: str, *, parallel: bool) -> Step:
    """Return the calls to make now; [] means to answer in text. `choice` is `auto`, `none`, `required` or a name."""
    if not tools or choice == "none":
        return []
    steps = scripted(talk.asked or talk.task, tools)
    if (forced := _by_name(choice, tools)) is not None:
        pending = _pending([[each for each in step if each.tool is forced] for step in steps], talk.done)
        return (pending or [Planned(forced, talk.task)])[:1]
    closing = [tool for tool in tools if not _CLOSING.isdisjoint(words_of(tool.name))]
    open_tools = [tool for tool in tools if tool not in closing]
    steps = steps or list(_planned(talk.task, open_tools))
    pending = _pending(steps, talk.done)
    if not pending and choice == "required":
        unused = [tool for tool in tools if tool.name not in talk.done]
        pending = [Planned((closing or unused[:1] or [steps[0][0].tool if steps else tools[0]])[0], talk.task)]
    return pending if parallel else pending[:1]


def _pending(steps: Sequence[Step], done: Sequence[str]) -> Step:
    """Return what is left of the first step that is not done."""
    left = Counter(done)
    for step in steps:
        pending = []
        for call in step:
            if left[call.tool.name] > 0:
                left[call.tool.name] -= 1
            else:
                pending.append(call)
        if pending:
            return pending
    return []


# --- the script


def scripted(text: str, tools: Sequence[Tool]) -> list[Step]:
    """Return the steps of the script in `text`: one for each line `call TOOL {…}`, whose calls ` & ` joins."""
    if "call" not in text:
        return []
    lines = islice(_SCRIPT.finditer(text), _MOST_LINES)
    return [step for match in lines if (step := list(_line(text, match.end(), tools)))][:_MOST_STEPS]


def _line(text: str, at: int, tools: Sequence[Tool]) -> Iterator[Planned]:
    while match := _SCRIPTED.match(text, at):
        tool, at, arguments = _by_name(match[1], tools), match.end(), None
        if text.startswith("{", at):
            try:
                arguments, at = _DECODER.raw_decode(text, at)
            except json.JSONDecodeError:
                return
        also = _ALSO.match(text, at)
        if tool is not None and (arguments is not None or also or not text[at:].partition("\n")[0].strip()):
            yield Planned(tool, text[match.start() : at], arguments)
        if also is None:
            return
        at = also.end()


def _by_name(name: str, tools: Sequence[Tool]) -> Tool | None:
    """The tool of this name; else the only one called so but for capitals and for the server before `__`."""
    same = [tool for tool in tools if tool.name == name]
    like = [tool for tool in tools if name.lower() in (tool.name.lower(), _own_name(tool.name).lower())]
    return same[0] if same else like[0] if len(like) == 1 else None


def _own_name(name: str) -> str:
    """The name without the server's, which MCP clients put before it."""
    return name.rsplit("__", 1)[-1]


# --- in words


def _planned(task: str, tools: Sequence[Tool]) -> Iterator[Step]:
    parts = [part for part in _STEP.split(task) if part and part.strip()] if tools else []
    for part in parts[:_MOST_STEPS]:
        chosen = mentioned(part, tools)
        if len(chosen) == 1:
            yield [Planned(chosen[0], part, place=place) for place in range(_times(chosen[0], part))]
        elif chosen:
            yield [Planned(tool, part) for tool in chosen[:_MOST_AT_ONCE]]


def mentioned(text: str, tools: Sequence[Tool]) -> list[Tool]:
    """Return the tools that `text` asks for, in the order of the request: those it calls by name; else those whose
    name's words it has, or means; else those whose description shares words with it."""
    values = Values(text)
    if named := [tool for tool in tools if _is_named(tool.name, text)]:
        return named
    words = frozenset(_WORD.findall(text.lower()))
    able = [tool for tool in tools if _can_fill(tool, values)]
    few = len(tools) <= FEW_TOOLS
    meant = words | _meant(text, words)
    return _best(able, words, values, few) or _best(able, meant, values, few) or _described(able, words, few)


def _is_named(name: str, text: str) -> bool:
    """Whether `text` has the name itself. One that is a plain word has to be called a tool, or be quoted."""
    if name not in text or not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text):
        return False
    if len(words_of(name)) > 1 or not name.isalpha():
        return True
    near = rf"(?:\b(?:use|using|call)\s+(?:the\s+)?{name}\b|\b{name}\s+tool\b|[`\"']{name}[`\"'])"
    return re.search(near, text, re.IGNORECASE) is not None


def _meant(text: str, words: frozenset[str]) -> frozenset[str]:
    found = [word for verb, others in _MEANS.items() if verb in words for word in others]
    if match := _SUM.search(text):
        sign = {"x": "*", "\u00d7": "*", "\u00f7": "/"}.get(match[1], match[1])
        found += [*_SIGNS[sign], *_CALCULATORS]
    return frozenset(found)


def _best(tools: Sequence[Tool], words: frozenset[str], values: Values, few: bool) -> list[Tool]:
    """The tools all of whose name's words are there; with few tools, else those with the most of them."""
    counts = {}
    for tool in tools:
        own = [word for word in words_of(_own_name(tool.name)) if len(word) > 2 and word not in _PLAIN]
        shown = (_FILES if values.paths else frozenset()) | (_PAGES if values.urls else frozenset())
        hits = sum(_has(words, word) or word in shown for word in own)
        real = any(_has(words, word) for word in own)
        counts[tool.name] = (hits, len(own)) if real else (0, 1)
    full = [tool for tool in tools if counts[tool.name][0] == counts[tool.name][1]]
    most = max((hits for hits, _ in counts.values()), default=0)
    return full or [tool for tool in tools if few and most and counts[tool.name][0] == most]


def _has(words: frozenset[str], word: str) -> bool:
    return word in words or any(word + ending in words for ending in _ENDINGS)


def _described(tools: Sequence[Tool], words: frozenset[str], few: bool) -> list[Tool]:
    best, most = None, 0 if few else 2
    for tool in tools:
        first = tool.description.partition(".")[0][:300].lower()
        own = {word for word in _WORD.findall(first) if len(word) > 3} - _TALK
        hits = sum(_has(words, word) for word in own)
        if hits > most:
            best, most = tool, hits
    return [best] if best else []


def _can_fill(tool: Tool, values: Values) -> bool:
    """Whether the text has a path, an address or a command for a tool that cannot go without."""
    needed = tool.parameters.get("required")
    for name in needed if isinstance(needed, list) else ():
        kind = kind_of(str(name))
        if kind in ("path", "url", "command") and not values.has(str(name)):
            return False
    return True


def _times(tool: Tool, text: str) -> int:
    """How often a tool is called for one step: once for each of several places or paths, where it takes one."""
    properties = tool.parameters.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    needed = tool.parameters.get("required")
    wanted = [str(name) for name in (needed if isinstance(needed, list) and needed else known)]
    texts = [name for name in wanted if isinstance(known.get(name), Mapping) and known[name].get("type") != "array"]
    if len(texts) != 1 or str(known[texts[0]].get("type", "")).lower() != "string" or " and " not in text:
        return 1
    values = Values(text, frozenset({tool.name}))
    kind = kind_of(texts[0])
    if kind not in ("", "place", "path", "url"):
        return 1
    found = values.paths if kind == "path" else values.urls if kind == "url" else values.proper
    return min(max(len(dict.fromkeys(found)), 1), _MOST_AT_ONCE)
