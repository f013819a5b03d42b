"""Run every scenario against the site whose JSON is on standard input; print a JSON report.

`python -m tests.sdk_scenarios` needs no package but the SDKs.
"""

import asyncio
import json
import sys
import traceback

import anthropic
import openai

from tests.sdk_scenarios import anthropic_scenarios, openai_errors, openai_scenarios, responses_scenarios
from tests.sdk_scenarios.site import Site

SCENARIOS = {
    f"{module.__name__.rpartition('.')[2]}.{scenario.__name__}": scenario
    for module in (openai_scenarios, openai_errors, responses_scenarios, anthropic_scenarios)
    for scenario in module.SCENARIOS
}


async def report(site: Site) -> dict[str, object]:
    """The SDKs' versions, and for each scenario None or how it failed."""
    failures: dict[str, str | None] = dict.fromkeys(SCENARIOS)
    for name, scenario in SCENARIOS.items():
        try:
            await scenario(site)
        except Exception:  # noqa: BLE001 - whatever it is, the report has it and the next scenario runs
            failures[name] = traceback.format_exc()
    return {"openai": openai.__version__, "anthropic": anthropic.__version__, "failures": failures}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(report(Site(**json.load(sys.stdin))))))  # noqa: T201 - the report is the output
