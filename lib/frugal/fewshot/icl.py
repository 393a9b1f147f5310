"""In-context learning: the task is told by examples in the prompt, and nothing is trained."""

from collections.abc import Sequence

from frugal.errors import FrugalError
from frugal.tasks import Example


def prompted(
    queries: Sequence[Example],
    shots: Sequence[Example],
    *,
    order: Sequence[int] | None = None,
) -> list[Example]:
    """The queries, each with the solved `shots` in front of its prompt, blank lines between them.

    order: in which order the shots stand, as indices; by default as they come

    Raises FrugalError where `order` is not a permutation.
    Source: Brown et al. 2020, §2; the k-shot setting T-Few compares with (§4.2).
    """
    order = range(len(shots)) if order is None else order
    if sorted(order) != list(range(len(shots))):
        raise FrugalError(f"order: {list(order)} is not a permutation of {len(shots)} shots")
    solved = [f"{s.prompt}{s.choices[s.label]}\n\n" for s in shots]
    context = "".join(solved[i] for i in order)
    return [q.model_copy(update={"prompt": context + q.prompt}) for q in queries]
