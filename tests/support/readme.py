"""The fenced code blocks of a Markdown file, so that a test can execute what a reader would paste."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"

# What the README says of a fresh checkout with default settings.
API_URL = "http://127.0.0.1:8080"
DATA_DIR = ".modelpilot"
PROGRAM = ".venv/bin/modelpilot"
PYTHON = ".venv/bin/python"

_SAVED = re.compile(r"Save this as `([^`]+)`[^`\n]*\n\n\Z")
_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """One block. `bash` and `python` can be executed beside a running stack; `sh` starts it or takes long. `file` is
    the name under which the sentence before it says to save it."""

    language: str
    text: str
    line: int
    file: str | None = None

    def retargeted(
        self, *, api_url: str = API_URL, data_dir: str = DATA_DIR, program: str = PROGRAM, python: str = PYTHON
    ) -> "Snippet":
        """The same for a stack elsewhere."""
        text = self.text.replace(API_URL, api_url).replace(PROGRAM, program).replace(PYTHON, python)
        return replace(self, text=text.replace(f"{DATA_DIR}/", f"{data_dir}/"))


def snippets(*languages: str, path: Path = README) -> Iterator[Snippet]:
    """The blocks of these languages (none: of all), in the order of the page: later ones build on earlier ones."""
    text = path.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        if not languages or found["language"] in languages:
            saved = _SAVED.search(text, 0, found.start())
            line = text.count("\n", 0, found.start()) + 1
            yield Snippet(found["language"], found["text"], line, saved[1] if saved else None)
