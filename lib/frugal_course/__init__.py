"""What a person looks at and works with: figures, explorers, exercises, notebooks, pages.

It stands on `frugal`, which computes, and which imports nothing of it.
"""
