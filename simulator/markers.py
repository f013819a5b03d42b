"""Fields between markers, as dspy's adapters ask for them: what is given, what is wanted, and how it is written. Pure.

Read from dspy's own prompts: `[[ ## question ## ]]` before each input, and one line that names the outputs.
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.request import Called, Tool

_MARK = "[[ ## "
_FIELD = re.compile(r"^(?:\[\[ ## (\w+) ## \]\]|<(\w+)>)[ \t]*$", re.MULTILINE)
_WISH = re.compile(
    r"^Respond with (?:the corresponding output fields, starting with the field (?P<chat>.+?),? and then ending with|"
    r"a JSON object in the following order of fields: (?P<json>.+)|"
    r"the corresponding output fields wrapped in XML tags (?P<xml>.+))",
    re.MULTILINE,
)
_NAME = re.compile(
    r"`(?:\[\[ ## |<)?(\w+)(?: ## \]\]|>)?`(?: \(must be formatted as a valid Python ([^`]+?)\)(?=,|\.|$))?"
)
_NOTE = "# note: the value you produce "
_ADHERES = "must adhere to the JSON schema: "
_ONE_OF = "must exactly match (no extra characters) one of: "
_PLAIN = {"int": "integer", "float": "number", "bool": "boolean"}
_STEP = re.compile(r"(tool_name|observation)_(\d+)")
_TOOL = re.compile(
    r"(\w+), whose description is <desc>(.*?)</desc>\. It takes arguments (\{.*?\})\.(?=$|\s|\"|')",
    re.DOTALL | re.MULTILINE,
)
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Form:
    """What is wanted: the schemas of fields, by name, in the form `chat` (markers), `json` or `xml`."""

    kind: str
    fields: Mapping[str, Any]

    def written(self, values: Mapping[str, Any]) -> str:
        """Write the fields."""
        if self.kind == "json":
            return json.dumps(values, ensure_ascii=False)
        shown = {name: value if isinstance(value, str) else _python(value) for name, value in values.items()}
        if self.kind == "xml":
            return "\n\n".join(f"<{name}>\n{value}\n</{name}>" for name, value in shown.items())
        marked = [f"[[ ## {name} ## ]]\n{value}" for name, value in shown.items()]
        return "\n\n".join([*marked, "[[ ## completed ## ]]"])


def _python(value: Any) -> str:
    return str(value) if isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Given:
    """The inputs of a prompt with markers: the texts, and the calls of an agent's trajectory with their results."""

    task: str
    calls: tuple[Called, ...] = ()
    results: tuple[Called, ...] = field(default=())


def given(text: str) -> Given | None:
    """Read the inputs in a user's message, or None if it has no markers."""
    if "Respond with " not in text or not (_MARK in text or "wrapped in XML tags" in text):
        return None
    wish = None
    for wish in _WISH.finditer(text):  # noqa: B007 - the last one counts
        pass
    if wish is None:
        return None
    sections = _sections(text[: wish.start()])
    steps = {name: value for name, value in sections.items() if _STEP.fullmatch(name)}
    calls = [Called(name.rpartition("_")[2], value) for name, value in steps.items() if name.startswith("tool")]
    tools = {call.id: call.name for call in calls}
    seen = [
        Called(at, tools.get(at, ""), value)
        for name, value in steps.items()
        if name.startswith("observation") and tools.get(at := name.rpartition("_")[2]) != "finish"
    ]
    plain = (value for name, value in sections.items() if not re.search(r"_\d+$|^trajectory$|^tools$", name))
    return Given("\n".join(filter(None, plain)), tuple(calls), tuple(seen))


def _sections(text: str) -> dict[str, str]:
    marks = list(_FIELD.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    found = {}
    for mark, end in zip(marks, ends, strict=True):
        name = mark[1] or mark[2]
        found[name] = text[mark.end() : end].replace(f"</{name}>", "").strip()
    return found


def wanted(asked: str, system: str) -> Form | None:
    """Return the form that a user's message asks for; the schemas of its fields stand in the system prompt."""
    if "Respond with " not in asked or (match := _WISH.search(asked)) is None:
        return None
    kind = str(match.lastgroup)
    names = dict(_NAME.findall(match[kind]))
    notes = _notes(system)
    return Form(kind, {name: _schema(notes.get(name, ""), about) for name, about in names.items()}) if names else None


def _notes(system: str) -> dict[str, str]:
    """What the system prompt says of each output's values."""
    found = {}
    for line in system.splitlines():
        before, mark, note = line.partition(_NOTE)
        name = before[before.find("{") + 1 : before.find("}")]
        if mark and name:
            if before.lstrip().startswith('"'):  # within JSON
                note = note.rstrip(",").removesuffix('"').replace('\\"', '"').replace("\\\\", "\\")
            found[name] = note
    return found


def _schema(note: str, annotation: str) -> dict[str, Any]:
    if note.startswith(_ADHERES):
        try:
            found = _DECODER.raw_decode(note, len(_ADHERES))[0]
        except json.JSONDecodeError:
            found = {}
        return found if isinstance(found, dict) else {}
    if note.startswith(_ONE_OF):
        return {"enum": note.removeprefix(_ONE_OF).strip().split("; ")}
    kind = re.search(r"single (\w+) value", note)
    word = kind[1] if kind else "bool" if note.startswith("must be True or False") else annotation
    return {"type": _PLAIN.get(word, "array" if word.startswith("list") else "string")}


def tools_in(text: str) -> tuple[Tool, ...]:
    """Return the tools that a prompt describes in dspy's words."""
    if "whose description is <desc>" not in text:
        return ()
    found = []
    for name, about, arguments in _TOOL.findall(text):
        try:
            properties = ast.literal_eval(arguments)
        except (ValueError, SyntaxError):
            continue
        found.append(Tool(name, {"type": "object", "properties": properties, "required": list(properties)}, about))
    return tuple(found)
