"""Agents can work with the simulator: it calls the tools that a task asks for, one step after the other, then talks."""

import json
from typing import Any

import pytest

from simulator.faults import Active
from simulator.generate import Choice, generate
from simulator.models import MODELS
from simulator.talk import without_harness
from simulator.wire_openai import OpenAI

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
FLAG: Json = {"type": "boolean"}
MOST_TURNS = 12


def tool(name: str, properties: Json, *required: str, about: str = "") -> Json:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


# What a coding agent offers, in short.
CODING = [
    tool("Task", {"prompt": TEXT, "subagent_type": TEXT}, "prompt", about="Launch a new agent for complex tasks."),
    tool("Bash", {"command": TEXT, "timeout": WHOLE}, "command", about="Executes a given bash command."),
    tool("Glob", {"pattern": TEXT}, "pattern", about="Fast file pattern matching for any codebase size."),
    tool("Grep", {"pattern": TEXT}, "pattern", about="A powerful search tool built on ripgrep."),
    tool("Read", {"file_path": TEXT, "offset": WHOLE, "limit": WHOLE}, "file_path", about="Reads a file."),
    tool(
        "Edit",
        {"file_path": TEXT, "old_string": TEXT, "new_string": TEXT, "replace_all": {**FLAG, "default": False}},
        *("file_path", "old_string", "new_string"),
        about="Performs exact string replacements in files.",
    ),
    tool("Write", {"file_path": TEXT, "content": TEXT}, "file_path", "content", about="Writes a file."),
    tool("WebFetch", {"url": {"type": "string", "format": "uri"}, "prompt": TEXT}, "url", "prompt"),
    tool("WebSearch", {"query": TEXT}, "query", about="Allows to search the web."),
    tool("TodoWrite", {"todos": {"type": "array", "items": TEXT}}, "todos", about="Manages a task list."),
    tool("mcp__site__open_ticket", {"title": TEXT, "notify": {"type": ["string", "null"]}}, "title", "notify"),
]
WEATHER = tool("get_weather", {"city": TEXT, "unit": {"type": "string", "enum": ["celsius", "kelvin"]}}, "city")
ADD = tool("add", {"a": WHOLE, "b": WHOLE}, "a", "b")
FINAL = tool("final_answer", {"answer": {}}, "answer")


def choice(messages: list[Json], tools: list[Json], **fields: Any) -> Choice:
    body = {"model": "large", "messages": messages, "tools": tools, **fields}
    return generate(OpenAI().parse(body, {}), MODELS["large"], Active(), None, call_id="x", created=1).choices[0]


def worked(task: str, tools: list[Json], **fields: Any) -> tuple[list[list[tuple[str, Json]]], str]:
    """Do as an agent does: carry out the calls until text comes. Returns the calls of each turn, and the text."""
    messages: list[Json] = [{"role": "user", "content": task}]
    turns: list[list[tuple[str, Json]]] = []
    ids: list[str] = []
    while calls := (answer := choice(messages, tools, **fields)).tool_calls:
        assert len(turns) < MOST_TURNS, "it never ends"
        turns.append([(call.name, json.loads(call.arguments)) for call in calls])
        shown = [{"id": call.id, "function": {"name": call.name, "arguments": call.arguments}} for call in calls]
        messages.append({"role": "assistant", "content": None, "tool_calls": shown})
        messages += [{"role": "tool", "tool_call_id": call.id, "content": f"done {len(turns)}"} for call in calls]
        ids += [call.id for call in calls]
    assert len(set(ids)) == len(ids), "an id came twice"
    return turns, answer.text


@pytest.mark.parametrize(
    ("task", "turns"),
    [
        ("Read the file notes/a.txt", [[("Read", {"file_path": "notes/a.txt"})]]),
        ("Read a.txt and b.txt", [[("Read", {"file_path": "a.txt"}), ("Read", {"file_path": "b.txt"})]]),
        (
            "First read a.txt, then write out/b.txt with content 'hi there'",
            [[("Read", {"file_path": "a.txt"})], [("Write", {"file_path": "out/b.txt", "content": "hi there"})]],
        ),
        (
            "1. Read a.txt\n2. Read b.txt\n3. Run `make test`",
            [
                [("Read", {"file_path": "a.txt"})],
                [("Read", {"file_path": "b.txt"})],
                [("Bash", {"command": "make test"})],
            ],
        ),
        (
            "Replace 'foo' with 'bar' in src/main.py",
            [[("Edit", {"file_path": "src/main.py", "old_string": "foo", "new_string": "bar"})]],
        ),
        ("Show me src/app.ts, limit 5", [[("Read", {"file_path": "src/app.ts", "limit": 5})]]),
        ("Use the Grep tool: pattern `parse_args`", [[("Grep", {"pattern": "parse_args"})]]),
        (
            'Open a ticket with the title "It is broken"',
            [[("mcp__site__open_ticket", {"title": "It is broken", "notify": None})]],
        ),
    ],
)
def test_a_coding_agent_gets_the_calls_it_was_asked_for(task: str, turns: Any) -> None:
    """Step by step, with the paths, commands and texts of the task, and no optional argument that nobody named."""
    assert worked(task, CODING)[0] == turns


@pytest.mark.parametrize(
    "task",
    ["hello", "Write a haiku about spring", "Explain how this codebase works", "What is 12 * 7?", "Edit the plan"],
)
def test_a_coding_agent_gets_text_where_nothing_is_to_be_done(task: str) -> None:
    """Many tools are offered with every prompt: none is called for the sake of it, or without the path it needs."""
    turns, text = worked(task, CODING)
    assert turns == []
    assert text


@pytest.mark.parametrize(
    ("task", "fields", "turns"),
    [
        ("Weather in Paris and New York?", {}, [[{"city": "Paris"}, {"city": "New York"}]]),
        ("Weather in Paris and Rome?", {"parallel_tool_calls": False}, [[{"city": "Paris"}], [{"city": "Rome"}]]),
        ("weather in paris in kelvin, unit: kelvin", {}, [[{"city": "paris", "unit": "kelvin"}]]),
        ("What is 12 + 30?", {}, [[{"a": 12, "b": 30}]]),
        ("What is 7 + 7?", {}, [[{"a": 7, "b": 7}]]),
        ("Please add: a = 4, b = -3", {}, [[{"a": 4, "b": -3}]]),
        ("Hello", {}, []),
    ],
)
def test_arguments_stand_in_the_prompt(task: str, fields: Json, turns: Any) -> None:
    """Cities, numbers, options and named values are taken from the prompt, each once."""
    assert [[arguments for _, arguments in turn] for turn in worked(task, [WEATHER, ADD], **fields)[0]] == turns


def test_the_answer_states_the_results() -> None:
    """Frameworks show the last text: what the tools returned is in it, shortened."""
    assert worked("What is 12 + 30?", [ADD])[1] == "add returned done 1"
    called = {"id": "c", "function": {"name": "add", "arguments": "{}"}}
    long: list[Json] = [
        {"role": "user", "content": "What is 12 + 30?"},
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c", "content": "x" * 5_000},
    ]
    assert choice(long, [ADD]).text == f"add returned {'x' * 300} …"
    assert choice([*long, {"role": "assistant", "content": "ok"}, long[0]], [ADD]).tool_calls  # a new task


SCRIPT = """Do this:
call Bash {"command": "echo \\"a\\nb\\""}
call Read {"file_path": "a.txt"} & Read {"file_path": "b.txt"}
call bash {"command": "ls", "timeout": 5}
Reply with exactly: all done"""
SCRIPTED: list[list[tuple[str, Json]]] = [
    [("Bash", {"command": 'echo "a\nb"'})],
    [("Read", {"file_path": "a.txt"}), ("Read", {"file_path": "b.txt"})],
    [("Bash", {"command": "ls", "timeout": 5})],
]


@pytest.mark.parametrize(
    "task",
    [
        SCRIPT,
        f'<system-reminder>\ncall Read {{"file_path": "not this"}}\n</system-reminder>\n{SCRIPT}',
        f"# AGENTS.md instructions for /work\n\n<INSTRUCTIONS>\nBe kind\n</INSTRUCTIONS>\n{SCRIPT}",
    ],
)
def test_a_script_is_carried_out(task: str) -> None:
    """Each line is a turn, to the letter, in spite of what a harness puts around it; then comes the text."""
    assert worked(task, CODING) == (SCRIPTED, "all done")
    single, _ = worked(task, CODING, parallel_tool_calls=False)
    assert single == [[call] for turn in SCRIPTED for call in turn]


def test_a_script_lies_anywhere_in_the_users_messages() -> None:
    """Some harnesses send several messages in a row, their own among them; side requests without tools get text."""
    around: list[Json] = [
        {"role": "user", "content": "<environment_context>cwd</environment_context>"},
        {"role": "user", "content": SCRIPT},
        {"role": "user", "content": "Mind the rules."},
    ]
    assert choice(around, CODING).tool_calls[0].name == "Bash"
    assert choice(around[:2], []).text == "all done"


@pytest.mark.parametrize("line", ["call me later", "call Bob {", "call Nothing {}", "recall Bash {}", "call it a day"])
def test_what_is_no_script_is_none(line: str) -> None:
    """Only a known tool, alone or with its arguments, is a line of a script."""
    assert worked(line, CODING)[0] == []


def test_required_ends_with_the_closing_tool() -> None:
    """A framework that forces a call at every step gets its `final_answer`, with the answer in it."""
    messages: list[Json] = [{"role": "user", "content": "Weather in Paris?"}]
    (first,) = choice(messages, [FINAL, WEATHER], tool_choice="required").tool_calls
    assert first.name == "get_weather"
    shown = {"id": first.id, "function": {"name": first.name, "arguments": first.arguments}}
    messages += [
        {"role": "assistant", "tool_calls": [shown]},
        {"role": "tool", "tool_call_id": first.id, "content": "12°"},
    ]
    (last,) = choice(messages, [FINAL, WEATHER], tool_choice="required").tool_calls
    assert (last.name, json.loads(last.arguments)) == ("final_answer", {"answer": "get_weather returned 12°"})


def test_a_text_without_a_harness_stays_as_it_is() -> None:
    """Echoes are exact to the byte: only where blocks are taken out, the rest is trimmed."""
    assert without_harness(" a </b> \n") == " a </b> \n"
    assert without_harness("<system-reminder>x</system-reminder>\nHello\n") == "Hello"
    assert without_harness("<system-reminder>never closed") == "<system-reminder>never closed"
