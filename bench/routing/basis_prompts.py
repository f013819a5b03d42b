"""Prompts of every kind that routers meet, from templates of our own (Apache-2.0, as the rest of the repository).

The basis that the product ships is made of them (`python -m bench.routing.basis_prompts`): it knows in which directions
prompts differ, and nothing of which model is good at what. No recorded prompt and no outcome is in it.
"""

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from infra.catalogue.basis import BASIS_FILE, save_basis
from infra.vectors.embedders import WordLlamaEmbedder
from modelpilot.learning.estimation.basis import make_basis

LANDMARKS = 256
_SEED, _PER_TEMPLATE = 20_261_130, 14

_WORDS: Mapping[str, Sequence[str]] = {
    "topic": (
        "the history of the Hanseatic League", "photosynthesis", "black holes", "the French Revolution", "jazz",
        "inflation and interest rates", "the immune system", "plate tectonics", "machine learning", "chess openings",
        "contract law", "sourdough bread", "marathon training", "the Renaissance", "quantum computing", "bees",
        "renewable energy", "the stock market", "sleep", "Stoic philosophy", "supply chains", "volcanoes", "tea",
    ),
    "thing": ("bicycle", "laptop", "coffee machine", "tent", "guitar", "washing machine", "camera", "sofa", "drone"),
    "person": ("Anna", "Mr. Okafor", "Dr. Lindqvist", "my landlord", "a new colleague", "Maria", "the head teacher"),
    "language": ("French", "German", "Spanish", "Japanese", "Italian", "Portuguese", "Polish", "Arabic", "Turkish"),
    "code": ("Python", "JavaScript", "Go", "Rust", "Java", "C++", "TypeScript", "Bash", "Ruby", "Kotlin"),
    "task": (
        "parses a CSV file", "finds the longest palindrome", "retries an HTTP request", "merges two sorted lists",
        "validates an e-mail address", "computes a moving average", "walks a directory tree", "inverts a binary tree",
    ),
    "table": ("orders", "customers", "employees", "flights", "invoices", "sensors", "students", "shipments"),
    "feeling": ("sad", "angry", "hopeful", "nostalgic", "funny", "solemn", "mysterious", "cheerful"),
    "place": ("Lisbon", "Kyoto", "a small village", "the Sahara", "Mars", "Chicago", "an old lighthouse", "Oslo"),
    "field": ("physics", "biology", "economics", "psychology", "law", "chemistry", "engineering", "medicine"),
    "review": (
        "It broke after two days and nobody answers my mails", "Great value, arrived early, my kids love it",
        "The colour is not as shown, otherwise fine", "Worst hotel ever, cold water and loud neighbours",
    ),
    "city": ("Berlin", "Paris", "Madrid", "Toronto", "Nairobi", "Seoul", "Lima", "Vienna"),
}  # fmt: skip

# {n}, {m} and {k} are numbers; {big} is a large one, {x} a decimal.
_TEMPLATES = (
    "What is {n} + {m}?",
    "Add {big} and {big2}, then subtract {k}.",
    "Calculate {x} * {n} / {m}.",
    "{person} has {n} apples, gives away {m} of them and buys {k} more. How many apples does {person} have now?",
    "A train leaves {city} at {k}:15 and travels {n} km at {m} km/h. When does it arrive?",
    "A shop sells a {thing} for ${n} with a {m}% discount. If {person} buys {k}, how much is saved in total?",
    "Let $f(x) = {n}x^2 - {m}x + {k}$. Find the minimum value of $f$ and where it is attained.",
    "Find all integers $a$ with $a^2 \\equiv {n} \\pmod{{{m}}}$. Prove that there are no others.",
    "Evaluate $\\int_0^{{{n}}} \\frac{{x^{m}}}{{1+x}}\\,dx$ and simplify your answer.",
    "In triangle $ABC$, $AB = {n}$, $BC = {m}$ and $\\angle B = {k}^\\circ$. What is the area of the triangle?",
    "How many ways are there to choose {k} people out of {n} if two of them refuse to sit together?",
    "Which of the following is true of {topic}?\nA. It began in {n}.\nB. It has {m} parts.\nC. Both.\nD. None.",
    "Question ({field}): What is the effect of doubling the temperature?\n(A) {n}%\n(B) {m}%\n(C) none\n(D) {k}%",
    "A multiple choice question about {field}.\n\n{topic} is best explained by\nA) chance B) design C) law\nAnswer:",
    "Explain {topic} to a ten year old.",
    "Explain in detail how {topic} changed over the last {n} years, with causes and consequences.",
    "What is {topic}?",
    "Compare {topic} with {topic2} in a table of {k} rows.",
    "Give me {k} arguments for and {k} against {topic}.",
    "Write a {feeling} poem about {place}.",
    "Write a short poem of {k} lines about a {thing}, with rhymes.",
    "Write a {feeling} short story of about {big} words that begins in {place} and ends with a {thing}.",
    "Write a dialogue between {person} and {person2} about {topic}.",
    "Write a polite e-mail to {person} to postpone our meeting on {topic} to next week.",
    "Write a cover letter for a job in {field}. I have {k} years of experience.",
    "Write a product description for a {thing} in {n} words.",
    "Translate into {language}: 'The {thing} costs {n} euros and will arrive on Monday.'",
    'How do you say "good evening, where is the station?" in {language}?',
    "Correct the grammar: 'Yesterday me and {person} has went to {city} for to see {topic}.'",
    """Summarize the following text in {k} sentences.

{topic} has been discussed for decades. Some say that {topic2} explains most of it, others point to {place}. In {big}
studies no clear answer was found, although {person} argued that the methods differ too much to be compared.""",
    "Rewrite this more formally: hey {person}, can u send me the {thing} thing by {k}pm? thx",
    'Classify the sentiment of this review as positive, negative or neutral: "{review}"',
    'Extract all names, dates and amounts as JSON: "On {k} May {person} paid {n} euros to {person2} for a {thing}."',
    'Return a JSON object with the keys "city" and "population" for {city}.',
    "Write a {code} function that {task}.",
    "Write unit tests in {code} for a function that {task}.",
    """Why does this {code} program fail?

```
def total(items):
    s = 0
    for i in range(len(items) + 1):
        s += items[i]
    return s
```
IndexError: list index out of range""",
    """Refactor this so that it {task}:

```
function run(a) {{ for (var i = 0; i < a.length; i++) {{ if (a[i] == {n}) {{ return i; }} }} return -1; }}
```""",
    "Write a SQL query that returns the {k} {table} with the highest total since {n}, grouped by month.",
    "SELECT count(*) FROM {table} t JOIN customers c ON c.id = t.customer_id WHERE t.total > {n}; why is this slow?",
    "Write a regular expression that matches {k}-digit numbers but not those that begin with {n}.",
    "Explain the difference between a process and a thread in {code}.",
    "Plan a trip of {k} days to {city} for a family with two children and a budget of {big} euros.",
    "What should I cook with {n} g of rice, a tomato and some cheese?",
    "I feel {feeling} since I moved to {city}. What can I do?",
    "Is it legal to record a call with {person} in {city}?",
    "What are the side effects of {n} mg of ibuprofen taken {k} times a day?",
    "Who wrote the most famous book about {place}, and in which year?",
    "What is the capital of the country in which {city} lies?",
    "List {k} synonyms of '{feeling}'.",
    "Get the current weather in {city} in celsius.",
    "Book a table for {k} at the Italian restaurant in {city} on Friday at {k}:30 and send the invitation to {person}.",
    "Set an alarm for {k} am and turn off the lights in the kitchen.",
    "Convert {n} US dollars to euros and {m} miles to kilometers.",
    "Find flights from {city} to {city2} on 2026-0{k}-1{k} for {k} adults in business class.",
    "You are given a list of {n} {table}. Design an API with endpoints to create, read and delete them.",
    "Continue: In {place}, where nobody had heard of {topic}, there lived",
    "Think step by step: if all {table} are late and {person} is never late, is {person} one of the {table}?",
    "Sort these: {n}, {m}, {k}, {big}, {x}.",
    "Hi!",
    "Thanks, that helps. And now shorter, please.",
    "Erkläre mir {topic} in {k} einfachen Sätzen.",
    "Schreibe ein Gedicht über {place} mit {k} Strophen.",
    "¿Cuál es la diferencia entre {topic} y {topic2}?",
    "Écris une lettre à {person} au sujet de {topic}.",
    "请用中文解释一下{topic}，并举{k}个例子。",
    "{n}加{m}等于多少？",
    "{topic}について{k}行で説明してください。",
)  # fmt: skip


def prompts() -> Iterator[str]:
    """Every template filled in some ways, always the same."""
    draw = random.Random(_SEED)
    for template, _ in itertools.product(_TEMPLATES, range(_PER_TEMPLATE)):
        words = {name: draw.choice(choice) for name, choice in _WORDS.items()}
        others = {f"{name}2": draw.choice(choice) for name, choice in _WORDS.items()}
        small = {name: draw.randint(2, high) for name, high in (("n", 500), ("m", 60), ("k", 9))}
        large = {name: draw.randint(1_000, 10 ** draw.randint(4, 9)) for name in ("big", "big2")}
        yield template.format(**words, **others, **small, **large, x=round(draw.uniform(0.1, 99.0), 2))


async def main() -> None:
    """Write the file that the product ships."""
    embedder = WordLlamaEmbedder()
    vectors = np.stack([await embedder.embed(prompt) for prompt in prompts()])
    save_basis(make_basis(vectors, LANDMARKS), BASIS_FILE)


if __name__ == "__main__":
    asyncio.run(main())
