"""A local server that plays OpenAI, Anthropic and Gemini over real HTTP, with faults on demand.

`docs/simulator.md` describes it. Pure: `models`, `text`, `request`, `answers`, `faults`, `generate`,
`wire_*`. I/O and state: `calls`, `state`, `delivery`, `server`.
"""
