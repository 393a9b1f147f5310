"""Frugal: what is the cheapest way to get a good classifier out of a language model?

One room per chapter: `costs` and `papers` (no torch), `peft`, `fewshot`; `engine` under them,
`show` and `cli` on top. Nothing is imported here, so that `import frugal.costs` stays cheap.
"""

__version__ = "0.1.0"
