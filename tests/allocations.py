"""How large the tensors are that a computation makes."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that an operation returned in memory of
    its own; views of what was there are none."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        there = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if _is(t)}
        found = function(*args, **(kwargs or {}))
        for t in filter(_is, tree_leaves(found)):
            storage = t.untyped_storage()
            if storage.data_ptr() not in there:
                self.elements = max(self.elements, storage.nbytes() // t.element_size())
        return found


def _is(value):
    return isinstance(value, torch.Tensor)
