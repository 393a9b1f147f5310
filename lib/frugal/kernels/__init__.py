"""Kernels: the few operations that are worth a form of their own, for speed or for memory.

Each file holds one: the equation, a plain torch reference that shows what is computed, and the fast
form beside it, which is tested against the reference. They know tensors and modules, and nothing of
tasks, methods or runs.
"""
