"""In-context learning: the task is told by examples in the prompt, and nothing is trained."""

from collections.abc import Sequence

from frugal.errors import FrugalError
from frugal.tasks import Example


def prompted(
    queries: Sequence[Example],
    shots: Sequence[Example],
    *,
    order: Sequence[int] | None = None,
    template: str = "{prompt}{answer}\n\n",
) -> list[Example]:
    """The queries, each with the solved `shots` in front of its prompt.

    order:    in which order the shots stand, as indices; by default as they come
    template: how one shot is written; {prompt} is its prompt, {answer} its right choice

    Raises FrugalError where `order` is not a permutation or the template lacks a part.
    Source: Brown et al. 2020, §2; the k-shot setting T-Few compares with (§4.2).
    """
    order = range(len(shots)) if order is None else order
    if sorted(order) != list(range(len(shots))):
        raise FrugalError(f"order: {list(order)} is not a permutation of {len(shots)} shots")
    if "{prompt}" not in template or "{answer}" not in template:
        raise FrugalError(f"template: {template!r} must contain {{prompt}} and {{answer}}")
    context = "".join(
        template.replace("{prompt}", s.prompt).replace("{answer}", s.choices[s.label])
        for s in (shots[i] for i in order)
    )
    return [q.model_copy(update={"prompt": context + q.prompt}) for q in queries]
