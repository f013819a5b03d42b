"""What stands in a text that a tool's arguments can take: cities, numbers, paths, quoted strings, commands. Pure."""

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache

_QUOTED = re.compile(r"\"([^\"\n]+)\"|`([^`\n]+)`|(?<!\w)'([^'\n]+)'(?!\w)")
_FENCED = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
# Words with capitals, but not the first of a sentence.
_NAME = re.compile(r"(?<![.!?:]\s)(?<=[ \t(])[A-Z]\w+(?:[ ][A-Z]\w+)*")
_NUMBER = re.compile(r"(?<![\w./:-])-?\d+(?:\.\d+)?(?![\w/:-]|\.\w)")
_URL = re.compile(r"https?://[^\s\"'`<>)\]]+")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+")
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d(?:T[\d:.]+Z?)?\b")
# A file with its ending, a path from the root, the home or here, or a folder with its slash.
_PATH = re.compile(
    r"(?<![\w/.@:-])(?:(?:~|\.{1,2})?/)?(?:[\w-][\w.-]*/)*[\w-][\w.-]*\.[A-Za-z]\w{0,7}(?![\w/@])"
    r"|(?<![\w/.@:<-])(?:~|\.{1,2})?/[\w.-]+(?:/[\w.-]*)*|(?<![\w/.@:-])[\w.-]+/(?=[\s,;.!?\"'`)]|$)"
)
_NO_NAMES = frozenset({"JSON", "XML", "YAML", "HTML", "CSV"})
_NO_PATHS = frozenset({"e.g", "i.e"})
_SUM = re.compile(r"(?<![\w.])[-(]*\d[\d.() ]{0,40}(?:[-+*/x\u00d7\u00f7^][-\d.() ]{0,40}\d\)*\s*)+")
_PLACE = re.compile(r"\b(?:in|for|at|near|of) ([a-z]{3,})\b")
_CONTENT = re.compile(r"\b(?:contents?|text|containing|saying|message)\b\s*:?\s*(?:of\s+)?(.+)", re.IGNORECASE)
_AFTER = re.compile(
    r"[\"'`]?\s*(?P<sign>=|:|\bis\b|\bto\b)?\s*"
    r"(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|`(?P<tick>[^`]*)`|(?P<bare>[^\s,;!?]+))"
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_MOST_LOOKS = 8  # at a property's name in the text
_LONGEST_QUESTION = 300  # characters
_PLAIN_KINDS = ("path", "url", "email", "date", "command", "formula")

_PATHS = frozenset(
    ["path", "paths", "file", "files", "filename", "filepath", "dir", "directory", "folder", "cwd", "workdir"]
)
_URLS = frozenset(_WORDS.findall("url urls uri link href"))
_COMMANDS = frozenset(_WORDS.findall("command commands cmd"))
_PLACES = frozenset(_WORDS.findall("city place location town country region destination"))
_CONTENTS = frozenset(_WORDS.findall("content contents text body message"))
_QUESTIONS = frozenset(
    [
        "question",
        "query",
        "prompt",
        "task",
        "input",
        "instruction",
        "instructions",
        "request",
        "objective",
        "description",
    ]
)
_ANSWERS = frozenset(
    _WORDS.findall("answer result response reply output summary reasoning rationale thought explanation")
)
_FORMULAS = frozenset(_WORDS.findall("expression expr formula equation calculation"))


@lru_cache(maxsize=4096)
def words_of(name: str) -> tuple[str, ...]:
    """Split the name of a property or tool, in any style, into lower-case words."""
    return tuple(word.lower() for word in _WORDS.findall(name))


def kind_of(name: str, wanted: str = "") -> str:
    """Return what a property called `name` with the format `wanted` holds: "path", "url", "command", … or ""."""
    words = frozenset(words_of(name))
    if wanted in ("uri", "url") or words & _URLS:
        return "url"
    if wanted == "email" or "email" in words:
        return "email"
    if wanted in ("date", "date-time") or "date" in words:
        return "date"
    tables = {"path": _PATHS, "command": _COMMANDS, "place": _PLACES, "formula": _FORMULAS, "content": _CONTENTS}
    found = next((kind for kind, table in tables.items() if words & table), None)
    return found or ("question" if words & _QUESTIONS else "")


def is_answer(name: str) -> bool:
    """Whether a property called `name` holds the answer itself."""
    return not _ANSWERS.isdisjoint(words_of(name))


class Values:
    """The values in a text, by kind. Those without a name of their own are given out once, in their order.

    `names` are those of tools and the like, which are no values.
    """

    def __init__(self, text: str = "", names: frozenset[str] = frozenset()) -> None:
        self._text = text
        self._names = names
        self._taken: set[str] = set()

    @cached_property
    def paths(self) -> list[str]:
        """Files and folders."""
        if "." not in self._text and "/" not in self._text:
            return []
        found = [match[0].rstrip(".") for match in _PATH.finditer(_URL.sub(" ", self._text))]
        return [path for path in found if path not in _NO_PATHS]

    @cached_property
    def urls(self) -> list[str]:
        """Addresses on the web."""
        return [found.rstrip(".,;!?") for found in _URL.findall(self._text)] if "://" in self._text else []

    @cached_property
    def quoted(self) -> list[str]:
        """What stands in quotes or backticks."""
        return ["".join(found) for found in _QUOTED.findall(_FENCED.sub(" ", self._text))]

    @cached_property
    def proper(self) -> list[str]:
        """Names: words with capitals within a sentence."""
        return [name for name in _NAME.findall(self._text) if name not in self._names and name not in _NO_NAMES]

    @cached_property
    def numbers(self) -> list[str]:
        """Numbers that stand alone, as far as they are not given out: the same one may come twice."""
        return _NUMBER.findall(self._text)

    def named(self, name: str) -> str | None:
        """Return what the text calls by this name: `limit=5`, `file path: a.txt`, `title "x"`; else None."""
        if not name:
            return None
        lower = self._lower
        for spelled in {name.lower(), " ".join(words_of(name))}:
            at, looks = lower.find(spelled), 0
            while at >= 0 and looks < _MOST_LOOKS:
                end = at + len(spelled)
                whole = not (at and lower[at - 1].isalnum()) and not lower[end : end + 1].isalnum()
                if whole and (value := self._behind(end, len(spelled) < 3)) is not None:
                    return value
                at, looks = lower.find(spelled, end), looks + 1
        return None

    @cached_property
    def _lower(self) -> str:
        return self._text.lower()

    def _behind(self, end: int, short: bool) -> str | None:
        match = _AFTER.match(self._text, end)
        if match is None:
            return None
        sign, bare = match["sign"], match["bare"]
        if bare is None:
            value = next(match[kind] for kind in ("double", "single", "tick") if match[kind] is not None)
            return None if short and not sign else value
        bare = bare.rstrip(".)]}")
        telling = sign in ("=", ":") or (bool(bare) and (bare[0].isdigit() or (bool(sign) and bare[0].isupper())))
        return bare if bare and telling and (sign or not short) else None

    def text(self, name: str, wanted: str = "") -> str | None:
        """Return a text for the property `name` with the format `wanted`, or None if there is none."""
        kind = kind_of(name, wanted)
        if (value := self.named(name)) is not None:
            return self._take(value)
        if kind in (*_PLAIN_KINDS, "place"):
            return self._next(self._of_kind(kind))
        if kind == "content" and (found := self._content()) is not None:
            return found
        if kind == "question":
            return self._next(iter(self.quoted)) or self._text.strip()[:_LONGEST_QUESTION] or None
        free = (value for value in self.quoted if value not in self.paths and value not in self._names)
        return self._next(free) or self._next(iter(self.proper))

    def has(self, name: str, wanted: str = "") -> bool:
        """Whether the text has a value for just this property."""
        if self.named(name) is not None:
            return True
        kind = kind_of(name, wanted)
        return kind in (*_PLAIN_KINDS, "place") and any(self._of_kind(kind))

    def says(self, value: object) -> bool:
        """Whether the text has this very word or phrase."""
        word = str(value).lower()
        return word in self._lower and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", self._lower) is not None

    def number(self, name: str, *, whole: bool, low: float, high: float, last: bool = False) -> float | None:
        """Return a number for the property `name` from `low` to `high` (the `last`, or the first), or None."""
        given = self.named(name)
        named = [given] if given is not None and _NUMBER.fullmatch(given) else []
        numbers = named + (self.numbers[::-1] if last else self.numbers)
        fitting = (each for each in numbers if low <= float(each) <= high and not (whole and "." in each))
        found = next(fitting, None)
        if found is None:
            return None
        if found in self.numbers:
            self.numbers.remove(found)
        return float(found)

    def all_of(self, name: str) -> list[str]:
        """Return all texts for a list called `name`, as far as they are not given out."""
        kind = kind_of(name)
        found = list(self._of_kind(kind)) if kind in ("path", "url", "place") else self.proper or self.quoted
        return [self._take(value) for value in found if value not in self._taken]

    def _of_kind(self, kind: str) -> Iterator[str]:
        match kind:
            case "path":
                yield from self.paths
            case "url":
                yield from self.urls
            case "email":
                yield from _EMAIL.findall(self._text) if "@" in self._text else ()
            case "date":
                yield from _DATE.findall(self._text)
            case "command":
                yield from _FENCED.findall(self._text)
                yield from self.quoted
            case "formula":
                yield from (found.strip() for found in _SUM.findall(self._text))
            case "place":
                yield from self.proper or _PLACE.findall(self._text)

    def _content(self) -> str | None:
        if fenced := _FENCED.search(self._text):
            return fenced[1]
        if found := self._next(value for value in self.quoted if value not in self.paths):
            return found
        match = _CONTENT.search(self._text)
        return match[1].strip().rstrip(".") if match else None

    def _next(self, values: Iterator[str]) -> str | None:
        found = next((value for value in values if value not in self._taken), None)
        return None if found is None else self._take(found)

    def _take(self, value: str) -> str:
        self._taken.add(value)
        return value
