"""The README's snippets are what they say they are (executing them is an end-to-end test)."""

import ast
import shutil
import subprocess

from tests.support.readme import snippets

BASH = shutil.which("bash") or "/bin/bash"


def test_every_snippet_is_valid_in_its_language() -> None:
    """A reader can paste each of them whole."""
    for snippet in snippets("bash", "sh"):
        checked = subprocess.run([BASH, "-n"], input=snippet.text, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, f"line {snippet.line}: {checked.stderr}"
    for snippet in snippets("python"):
        ast.parse(snippet.text)
