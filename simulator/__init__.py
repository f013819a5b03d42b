"""A local server that plays OpenAI, Anthropic and Gemini over real HTTP, with faults on demand.

`docs/simulator.md` describes it. I/O and state: `calls`, `state`, `delivery`, `server`; everything else is pure.
"""
