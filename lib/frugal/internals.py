"""What Frugal uses of the inside of transformers: parts that are private, or were renamed.

Everything else imports from `transformers` itself, so that a new version is met here. Version 5.24
calls the K and V of earlier tokens `cache`; before, they were `past_key_values`. A caller, a module
and its output may each use either name, and to miss one is to compute without what was cached.
"""

import inspect
from typing import Any

from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.initialization import no_init_weights
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.auto import modeling_auto
from transformers.pytorch_utils import Conv1D

from frugal.errors import FrugalError

__all__ = [
    "Cache",
    "Conv1D",
    "DynamicCache",
    "DynamicLayer",
    "cache_given",
    "cache_made",
    "cache_named",
    "create_bidirectional_mask",
    "modeling_auto",
    "no_init_weights",
]
_NAMES = ("cache", "past_key_values")


def cache_named(module: Any, cache: Any) -> dict[str, Any]:
    """The keyword argument by which `module` takes this cache.

    Raises FrugalError for a module that takes none: it would compute as if nothing were cached.
    """
    takes = inspect.signature(module.forward).parameters
    name = next((name for name in _NAMES if name in takes), None)
    if name is None:
        raise FrugalError(
            f"{type(module).__name__} takes no cache by a name that is known here "
            f"({', '.join(_NAMES)})"
        )
    return {name: cache}


def cache_given(arguments: dict[str, Any]) -> Any:
    """The cache among a forward pass's arguments, or None."""
    return next((arguments[name] for name in _NAMES if arguments.get(name) is not None), None)


def cache_made(output: Any) -> Any:
    """The cache in the output of a forward pass, or None."""
    found = (getattr(output, name) for name in _NAMES if hasattr(output, name))
    return next(found, None)
