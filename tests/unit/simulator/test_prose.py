"""What frameworks ask for in words is kept to: JSON by schema, keys or example, fields between markers, code."""

import json
from typing import Any

import pytest

from simulator.faults import Active
from simulator.generate import generate
from simulator.models import MODELS
from simulator.wire_openai import OpenAI

Json = dict[str, Any]
SUM = "What is 12 * 7?"


def answered(*turns: tuple[str, str], **fields: Any) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    request = OpenAI().parse({"model": "large", "messages": messages, **fields}, {})
    return generate(request, MODELS["large"], Active(), None, call_id="x", created=1).choices[0].text


USER_SCHEMA = json.dumps(
    {
        "$defs": {"Pet": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0},
            "pet": {"$ref": "#/$defs/Pet"},
            "mail": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["name", "age", "pet"],
    },
    indent=2,
)
USER = {"name": "Ada", "age": 36, "pet": {"name": "Tom"}, "mail": None}
EXTRACT = "Extract: the user Ada is 36 years old and has a cat called Tom"
EXPERT = f"Your task is to provide the parsed objects in json that match the following json_schema:\n\n{USER_SCHEMA}\n"


LIKE = 'As an example, for the schema {"properties": {"foo": {"type": "string"}}} the object {"foo": "a"} is right.'


@pytest.mark.parametrize(
    ("turns", "fields", "value"),
    [
        ([("user", f"{SUM} Respond in JSON with keys answer and certain (boolean).")], {}, {"answer", "certain"}),
        ([("user", f"{SUM} Return a JSON object with the following keys:\n- answer: the number\n- why: text\n")],
         {}, {"answer", "why"}),
        ([("user", f'{SUM} Answer with JSON like {{"answer": 1, "steps": ["..."]}}')], {}, {"answer", "steps"}),
        ([("user", f"{SUM} Return JSON.")], {}, {"answer": "12 * 7 = 84."}),
        ([("system", "Always answer in JSON."), ("user", SUM)], {}, {"answer": "12 * 7 = 84."}),
        ([("system", "Always answer in JSON."), ("user", f"{SUM} Fields: x and y")], {}, {"answer": "12 * 7 = 84."}),
        ([("user", f"{EXTRACT}. Return a JSON object matching this schema: {USER_SCHEMA}")], {}, USER),
        ([("system", EXPERT), ("user", EXTRACT)], {"response_format": {"type": "json_object"}}, USER),
        ([("user", "A city as JSON with keys name and people")], {"response_format": {"type": "json_object"}},
         {"name", "people"}),
        ([("user", f"{LIKE} Output a JSON instance that conforms to the JSON schema: {USER_SCHEMA}\n{EXTRACT}")],
         {}, USER),
    ],
)  # fmt: skip
def test_json_is_what_was_asked_for(turns: Any, fields: Json, value: Any) -> None:
    """The schema wins over keys, keys over an example; without any of them the answer has one key."""
    found = json.loads(answered(*turns, **fields))
    assert (set(found) if isinstance(value, set) else found) == value


def test_values_have_the_types_that_are_named() -> None:
    """Types in brackets, behind colons and in examples; the answer's number; a judge's score by its limits."""
    asked = "Return JSON with keys answer (integer), certain (boolean), tags (list of strings), mood ('up' | 'down')."
    found = json.loads(answered(("user", f"{SUM} {asked}")))
    assert (found["answer"], isinstance(found["certain"], bool), isinstance(found["tags"], list)) == (84, True, True)
    assert found["mood"] in ("up", "down")
    system = 'Grade it. Reply with one JSON object: {"score": number from 0 to 1, "reason": one sentence}.'
    good, bad = (
        json.loads(answered(("system", system), ("user", answer))) for answer in ("84", "I am not certain, but 85")
    )
    assert 0 <= bad["score"] < 0.3 < 0.8 < good["score"] <= 1


def test_a_fenced_block_is_given_where_asked_for() -> None:
    """Instructor's mode for models without a JSON mode reads the block."""
    turns = [("system", EXPERT), ("user", f"{EXTRACT}\n\nReturn the correct JSON response within a ```json codeblock.")]
    text = answered(*turns)
    assert text.startswith("```json\n")
    assert json.loads(text.removeprefix("```json\n").removesuffix("\n```")) == USER


@pytest.mark.parametrize(
    "task",
    [
        "Explain how to return JSON from a web server",
        "Write a JSON parser in Python",
        "What is JSON?",
        f"Here is my data: {USER_SCHEMA}. Is it any good?",
        "Return the book {{{ to the library",
    ],
)
def test_talk_about_json_is_no_wish(task: str) -> None:
    """Only an order to answer in JSON is one."""
    assert answered(("user", task)).startswith("On ")


def test_an_odd_schema_in_a_text_is_no_error() -> None:
    """It may be just a part of the text: the answer is some JSON, not a 400."""
    assert json.loads(answered(("user", 'Return JSON like this schema: {"properties": 5, "anyOf": 3}')))


CHAT = """Your output fields are:
1. `reasoning` (str):
2. `answer` (int):
All interactions will be structured in the following way, with the appropriate values filled in.

[[ ## question ## ]]
{question}

[[ ## reasoning ## ]]
{reasoning}

[[ ## answer ## ]]
{answer}        # note: the value you produce must be a single int value

[[ ## kind ## ]]
{kind}        # note: the value you produce must exactly match (no extra characters) one of: sum; other

[[ ## ok ## ]]
{ok}        # note: the value you produce must be True or False

[[ ## people ## ]]
{people}        # note: the value you produce must adhere to the JSON schema: {"type": "array", "$defs": {"P": \
{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}}, "items": {"$ref": "#/$defs/P"}}

[[ ## completed ## ]]"""


def test_fields_stand_between_markers() -> None:
    """dspy's chat format: every output in its type, in order, then the end."""
    user = (
        f"[[ ## question ## ]]\n{SUM}\n\nRespond with the corresponding output fields, starting with the field "
        "`[[ ## reasoning ## ]]`, then `[[ ## answer ## ]]` (must be formatted as a valid Python int), then "
        "`[[ ## kind ## ]]` (must be formatted as a valid Python Literal['sum', 'other']), then `[[ ## ok ## ]]` (must "
        "be formatted as a valid Python bool), then `[[ ## people ## ]]` (must be formatted as a valid Python X), and "
        "then ending with the marker for `[[ ## completed ## ]]`."
    )
    parts = answered(("system", CHAT), ("user", user)).split("\n\n")
    values = dict(part.removeprefix("[[ ## ").split(" ## ]]\n") for part in parts[:-1])
    assert list(values) == ["reasoning", "answer", "kind", "ok", "people"]
    assert (values["reasoning"], values["answer"], parts[-1]) == ("12 * 7 = 84.", "84", "[[ ## completed ## ]]")
    assert (values["kind"] in ("sum", "other"), values["ok"] in ("True", "False")) == (True, True)
    assert list(json.loads(values["people"])[0]) == ["name"]


def test_fields_come_as_json_or_xml() -> None:
    """dspy's other formats."""
    system = (
        'Outputs will be a JSON object with the following fields.\n\n{\n  "reasoning": "{reasoning}",\n'
        '  "tags": "{tags}        # note: the value you produce must adhere to the JSON schema: {\\"type\\": '
        '\\"array\\", \\"items\\": {\\"type\\": \\"integer\\"}}"\n}'
    )
    wish = (
        "Respond with a JSON object in the following order of fields: `reasoning`, then `tags` (must be formatted as a"
    )
    found = json.loads(
        answered(("system", system), ("user", f"[[ ## question ## ]]\n{SUM}\n\n{wish} valid Python list[int])."))
    )
    assert found == {"reasoning": "12 * 7 = 84.", "tags": [12, 7]}
    wish = "Respond with the corresponding output fields wrapped in XML tags `<answer>`."
    assert answered(("user", f"<question>\n{SUM}\n</question>\n\n{wish}")) == "<answer>\n12 * 7 = 84.\n</answer>"


REACT = """The tool must be one of:

(1) get_weather, whose description is <desc>Get the weather.</desc>. It takes arguments {'city': {'type': 'string'}}.
(2) finish, whose description is <desc>Marks the task as complete.</desc>. It takes arguments {}."""
STEP = (
    "Respond with the corresponding output fields, starting with the field `[[ ## next_thought ## ]]`, then "
    "`[[ ## next_tool_name ## ]]` (must be formatted as a valid Python Literal['get_weather', 'finish']), then "
    "`[[ ## next_tool_args ## ]]` (must be formatted as a valid Python dict[str, Any]), and then ending with the "
    "marker for `[[ ## completed ## ]]`."
)


def test_an_agent_in_markers_calls_tools_and_finishes() -> None:
    """dspy's ReAct: the trajectory in the prompt is what has been done; the last answer states what came back."""
    question = "[[ ## question ## ]]\nWhat is the weather in Paris?\n\n[[ ## trajectory ## ]]\n"
    first = answered(("system", REACT), ("user", f"{question}\n{STEP}"))
    assert '[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## next_tool_args ## ]]\n{"city": "Paris"}' in first
    seen = (
        "[[ ## thought_0 ## ]]\nI need it.\n\n[[ ## tool_name_0 ## ]]\nget_weather\n\n[[ ## tool_args_0 ## ]]\n{}\n\n"
        "[[ ## observation_0 ## ]]\nsunny"
    )
    second = answered(("system", REACT), ("user", f"{question}{seen}\n\n{STEP}"))
    assert "[[ ## next_tool_name ## ]]\nfinish\n" in second
    last = (
        "Respond with the corresponding output fields, starting with the field `[[ ## answer ## ]]`, and then ending "
        "with the marker for `[[ ## completed ## ]]`."
    )
    assert "[[ ## answer ## ]]\nget_weather returned sunny\n" in answered(("user", f"{question}{seen}\n\n{last}"))


CODER = """The code sequence must be opened with '<code>', and closed with '</code>'. Use `final_answer` in the end.
<code>
def get_weather(city: string, days: integer) -> string:
    \"\"\"Get the weather of a city.

def final_answer(answer: any) -> any:
    \"\"\"Provides a final answer.
</code>"""


def test_an_agent_in_code_calls_tools_and_finishes() -> None:
    """smolagents' code agent: one call, printed; with its observation, the final answer."""
    turns = [("system", CODER), ("user", "New task:\nWhat is the weather in Paris for 3 days?")]
    first = answered(*turns)
    assert '<code>\nprint(get_weather(city="Paris", days=3))\n</code>' in first
    turns += [
        ("assistant", first),
        ("user", "Observation:\nExecution logs:\nsunny\nLast output from code snippet:\nNone"),
    ]
    assert '<code>\nfinal_answer("get_weather returned sunny")\n</code>' in answered(*turns)
    called = "Calling tools:\n[{'id': 'c', 'type': 'function', 'function': {'name': 'get_weather', 'arguments': {}}}]"
    plain = [turns[1], ("assistant", called), ("user", "Observation:\nsunny")]
    assert answered(*plain) == "get_weather returned sunny"
