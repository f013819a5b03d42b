"""Prompts that look like traffic and are the same on every machine: the n-th prompt depends on n alone."""

import random

_TASKS = (
    "Summarize the main points about {topic} for {reader}",
    "Explain {topic} to {reader}",
    "Write a short e-mail to {reader} about {topic}",
    "List the advantages and risks of {topic}",
    "Which mistakes do people make with {topic}?",
    "Translate this note about {topic} into French",
    "Draft a checklist on {topic} for {reader}",
    "Compare two approaches to {topic} and recommend one",
    "Write a Python function that models {topic}",
    "What should {reader} know about {topic} before a meeting?",
)
_QUALITIES = (
    "low-cost", "seasonal", "large-scale", "automated", "rural", "urban", "international", "experimental", "legacy",
    "renewable", "confidential", "medical", "digital", "historic", "distributed", "wholesale",
)  # fmt: skip
_SUBJECTS = (
    "water supply", "tax returns", "bread baking", "database migrations", "bicycle repair", "insurance claims",
    "protein folding", "train timetables", "customer churn", "garden design", "court decisions", "sensor networks",
    "language courses", "shipping routes", "battery storage", "school lunches", "music licensing", "search engines",
    "patient records", "bridge inspections", "fraud detection", "wine tasting", "satellite images", "hiring interviews",
)  # fmt: skip
_READERS = (
    "a new colleague", "the board", "a ten-year-old", "an auditor", "our customers", "a retired engineer",
    "the support team", "a journalist", "my landlord", "two students",
)  # fmt: skip
_DETAILS = (
    "Use at most {n} sentences.", "The budget is {n} thousand euros.", "It concerns case number {n}.",
    "Keep the tone friendly.", "Mention the deadline in {n} days.", "Assume no prior knowledge.",
    "Give {n} examples.", "Cite nothing that you are not sure about.",
)  # fmt: skip


def prompt(number: int) -> str:
    """The prompt of this number: 6 to 60 words, unlike every other one."""
    draw = random.Random(number)
    topic = f"{draw.choice(_QUALITIES)} {draw.choice(_SUBJECTS)}"
    task = draw.choice(_TASKS).format(topic=topic, reader=draw.choice(_READERS))
    details = [detail.format(n=draw.randint(2, 900)) for detail in draw.sample(_DETAILS, draw.randint(0, 5))]
    return " ".join([f"{task} (ticket {number}).", *details])
