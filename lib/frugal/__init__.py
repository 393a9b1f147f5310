"""Frugal: what is the cheapest way to get a good classifier out of a language model?

One room per idea: `costs` and `papers` (no torch), `kernels`, `engine`, `peft`, `tasks`,
`fewshot`, `encoders`, `spaces`, `budgets`, `choice`, and `cli` on top; what a person looks at
is `frugal_course`. Nothing is imported here, so that `import frugal.costs` stays cheap.
"""

import sys

from frugal import moved

__version__ = "0.2.0"

sys.meta_path.insert(0, moved.Finder())
