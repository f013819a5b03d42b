"""The simulator answers from the conversation: what was said before, and in the form that was asked for."""

from typing import Any

import pytest

from simulator.faults import Active, parse_faults
from simulator.generate import generate
from simulator.models import MODELS
from simulator.wire_openai import OpenAI

SAID = [
    ("user", "My name is Ada. My favourite number is 4.2, and my dog is Rex!"),
    ("assistant", "Nice to meet you."),
    ("user", "Remember that the code is 4711. The secret word is banana."),
    ("assistant", "I will."),
]


def answered(task: str, system: str = "", said: Any = (), faults: str = "") -> str:
    turns = [("system", system)] * bool(system) + [*said, ("user", task)]
    messages = [{"role": role, "content": content} for role, content in turns]
    request = OpenAI().parse({"model": "large", "messages": messages}, {})
    active = Active(parse_faults(faults))
    return generate(request, MODELS["large"], active, None, call_id="x", created=1).choices[0].text


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("What is my name?", "Your name is Ada."),
        ("What's my favourite number?", "Your favourite number is 4.2."),
        ("And what is my dog?", "Your dog is Rex."),
        ("What is my age?", "You have not told me your age."),
        ("What is the secret word?", "The secret word is banana."),
        ("What did I ask you to remember?", "You asked me to remember: the code is 4711. The secret word is banana."),
        ("Repeat what I said.", f"You said: {SAID[2][1]}"),
        ("What was my first message?", f"You said: {SAID[0][1]}"),
        ("What was your last answer?", "I said: I will."),
        ("My name is Bob. What is my name?", "Your name is Bob."),
        ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
        ("What is 12 * 7?", "12 * 7 = 84."),
    ],
)
def test_earlier_turns_are_remembered(task: str, answer: str) -> None:
    """The latest of what was said counts; questions about the world are answered as ever."""
    assert answered(task, said=SAID) == answer


def test_wrong_answers_are_marked_here_too() -> None:
    """A judge can tell them, whatever they come from."""
    assert answered("What is my name?", said=SAID, faults="wrong") == "I am not certain, but Your name is Ada."


@pytest.mark.parametrize(
    ("system", "task", "answer"),
    [
        ("Always answer in JSON.", "What is 12 * 7?", '{"answer": "12 * 7 = 84."}'),
        ("You are a calculator. Answer only with the number.", "What is 12 * 7?", "84"),
        ("Answer only with 'OK'.", "Hello", "OK"),
        ("Reply only with the word ready", "Hello", "ready"),
        ("", "What is the capital of Japan? Answer only with one word.", "Tokyo"),
        ("", "Is water wet? Answer only with yes or no.", "Yes"),
        ("Reply with exactly: pong", "What is 12 * 7?", "pong"),
        ("You are kind.\nEnd every answer with 'Over.'", "What is 12 * 7?", "12 * 7 = 84. Over."),
        ("Start each reply with Ahoy!", "What is 12 * 7?", "Ahoy! 12 * 7 = 84."),
        ("Always answer in JSON. End every answer with 'x'", "Reply with exactly: as it is ", "as it is "),
    ],
)
def test_instructions_are_obeyed(system: str, task: str, answer: str) -> None:
    """The documented shapes, in the system prompt or in the task; an exact answer stays exact."""
    assert answered(task, system) == answer


def test_a_plain_prompt_gets_what_it_always_got() -> None:
    """A system prompt without instructions, and earlier turns, change nothing about words that are made up."""
    assert answered("Tell a story", "Be brief", SAID) == answered("Tell a story")
