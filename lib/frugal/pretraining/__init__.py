"""How nano-t0 is made: a mixture of tasks, and training on it. To use it takes none of this."""
