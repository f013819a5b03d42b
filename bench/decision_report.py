"""The results of `bench decision` for people."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_SAYS = {
    "empty": "the decision without anything known of the prompt: what the others are compared with",
    "predict": "expectations for every model, from the neighbours and the fitted predictor",
    "score": "the whole decision with its explanation, the expectations included",
    "embed": "the prompt's vector",
    "search": "its neighbours, from memory",
    "whole": "embed, search and score, as a request makes them",
}


def show_decision(found: Mapping[str, Any]) -> None:
    """Print a line per step, and the conditions."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, 124)
    table = Table(title="One decision", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("step", "p50 ms", "p95 ms", "p99 ms", "of empty", "is"):
        table.add_column(column, justify="left" if column in ("step", "is") else "right")
    for name, step in found["results"].items():
        figures = [f"{step['ms'][percent]:.2f}" for percent in ("p50", "p95", "p99")]
        table.add_row(name, *figures, f"{step['ofEmpty']:.2f}", _SAYS[name])
    console.print(table)
    options, machine = found["options"], found["machine"]
    load = " ".join(f"{value:.2f}" for value in machine["loadAverageBefore"])
    predictor = "a fitted predictor" if found["fitted"] else "no predictor (its fit was refused)"
    console.print(
        f"{options['models']} models, {options['history']:,} past prompts, {predictor}, {options['calls']:,} calls of "
        f"each step; {machine['cpusUsable']} CPUs, load before {load}",
        soft_wrap=True,
    )
