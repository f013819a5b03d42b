"""A local server that plays OpenAI, Anthropic and Gemini over real HTTP, with faults on demand.

See `docs/simulator.md`. Pure: `models`, `text`, `answers`, `schema`, `faults`, `generate`, `wire_*`, `plan`.
I/O and state: `switches`, `calls`, `delivery`, `handlers`, `admin`, `app`, `server`.
"""
