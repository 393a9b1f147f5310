"""Sizes: how wide adapters, how long prefixes, of which rank LoRA, so that a budget is met.

What a method of size s adds to a layer (d = d_model; sums over the layer's attentions, of which a
decoder's layer has two where it reads an encoder):

    A   2 d s + s + d                     bottleneck of width s behind the feed-forward (Pfeiffer)
    P   Σ 2 d_kv s                        s keys and s values
    L   Σ (d + d_q) s + (d + d_kv) s      rank s beside the projections of queries and values
    B   one bias for each feature that a projection or a norm's shift puts out; it has no size

Placements are those of the paper's released code. T5 has no biases: BitFit gives it some. A gated
feed-forward has two input matrices. T5's and Llama's norms have no shift.
"""

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

from frugal.costs.arch import Architecture
from frugal.errors import FrugalError
from frugal.spaces.design import Design
from frugal.spaces.space import Space

BUDGET = 0.005  # of the backbone's parameters, in the paper
TOLERANCE = 0.02  # of the budget
TRIES = 1000  # of a space whose designs do not meet a budget


@dataclass(frozen=True)
class Cost:
    """Parameters of a method in a layer: fixed + unit × size; unit 0 where there is no size."""

    fixed: int
    unit: int


@dataclass(frozen=True)
class Sized:
    """A design with the sizes that meet its budget.

    sizes:  of each method in each tuned layer, counted from 1; BitFit's is 0
    params: what is trained by it on its architecture, heads not counted
    budget: what was asked for, in parameters
    """

    design: Design
    sizes: Mapping[int, Mapping[str, int]]
    params: int
    budget: int


def costs(arch: Architecture, layer: int) -> dict[str, Cost]:
    """What each method costs in `layer`, counted from 1, decoder behind encoder."""
    d, d_q, d_kv = arch.d_model, arch.d_q, arch.d_kv
    attentions = 2 if layer > arch.layers else 1
    features = attentions * (d_q + 2 * d_kv + d) + (1 + arch.gated) * arch.d_ff + d
    # Of an encoder–decoder BitFit trains none here: T5 has none.
    shifts = 0 if arch.decoder_layers else sum(n * prod(s) for _, n, s in arch.norm_shifts())
    return {
        "A": Cost(d, 2 * d + 1),
        "P": Cost(0, attentions * 2 * d_kv),
        "B": Cost(features + shifts // arch.layers, 0),
        "L": Cost(0, attentions * (2 * d + d_q + d_kv)),
    }


def solve(
    design: Design, arch: Architecture, budget: float = BUDGET, *, tolerance: float = TOLERANCE
) -> Sized:
    """Sizes so that the design trains `budget` (a share) of the parameters of `arch`.

    tolerance: by what share of the budget it may be missed

    Each tuned layer gets its share of the budget, its methods equal parts of that, and no method
    less than size 1. What a layer cannot take, because BitFit has no size, or must take, because
    size 1 is more than its share, the others make up for. What rounding leaves over goes to the
    next layer. Raises FrugalError where the budget cannot be met, and says why.
    """
    if not 0 < budget <= 1:
        raise FrugalError(f"budget must be a share above 0 and at most 1, not {budget!r}")
    layers = arch.layers + arch.decoder_layers
    if design.layers != layers:
        raise FrugalError(f"the design has {design.layers} layers, {arch.name} has {layers}")
    wanted = round(budget * arch.params)
    tuned = design.tuned_layers()
    parts = {n: {m: costs(arch, n)[m] for m in methods} for n, (methods, _) in tuned.items()}
    least = {n: sum(c.fixed + c.unit for c in part.values()) for n, part in parts.items()}
    unit = {
        n: min((c.unit for c in part.values() if c.unit), default=0) for n, part in parts.items()
    }

    # Layers that take what they take, until each of the others has more to spend than its least.
    free = {n for n in tuned if unit[n]}
    while True:
        left = wanted - sum(least[n] for n in tuned if n not in free)
        shares = sum(tuned[n][1] for n in free)
        target = {n: left * tuned[n][1] / shares for n in free}
        if not (tight := {n for n in free if target[n] < least[n]}):
            break
        free -= tight

    sizes = {n: {m: int(c.unit > 0) for m, c in part.items()} for n, part in parts.items()}
    rest = 0.0
    for n in sorted(free, key=lambda n: (-unit[n], n)):  # the finest last: it rounds best
        rest += target[n]
        sizes[n] = _fill(parts[n], rest)
        rest -= _params(parts[n], sizes[n])
    params = sum(_params(parts[n], sizes[n]) for n in tuned)
    if abs(params - wanted) > tolerance * wanted:
        why = f"BitFit has no size and takes {params:,}"
        if free:
            step = max(unit.values())
            why = f"one step of its sizes is {step:,}: the nearest is {params:,}"
        elif params > wanted:
            why = f"the smallest sizes take {params:,}"
        raise FrugalError(
            f"{design} on {arch.name}: the budget is {wanted:,} parameters, but {why}"
        )
    return Sized(design, dict(sorted(sizes.items())), params, wanted)


def _params(part: Mapping[str, Cost], sizes: Mapping[str, int]) -> int:
    return sum(cost.fixed + cost.unit * sizes[m] for m, cost in part.items())


def parts(found: Sized, arch: Architecture) -> list[dict[str, Any]]:
    """A record for each method in each layer: group, layer (both from 1), method, size, params.

    A layer that is not tuned has one, with no method and no parameters.
    """
    records: list[dict[str, Any]] = []
    for number, group in enumerate(found.design.groups, start=1):
        for layer in group.layers:
            known = {**costs(arch, layer), "": Cost(0, 0)}
            for method, size in found.sizes.get(layer, {"": 0}).items():
                params = known[method].fixed + known[method].unit * size
                record = {"group": number, "layer": layer, "method": method}
                records.append(record | {"size": size, "params": params})
    return records


def _fill(part: Mapping[str, Cost], params: float) -> dict[str, int]:
    """Sizes that together come nearest to `params`, the methods that have one in equal parts."""
    left = params - sum(cost.fixed for cost in part.values())
    free = {m: cost.unit for m, cost in part.items() if cost.unit}
    sizes = {m: max(1, int(left / len(free) / u)) for m, u in free.items()}
    left -= sum(u * sizes[m] for m, u in free.items())
    for m, u in sorted(free.items(), key=lambda item: -item[1]):
        add = max(round(left / u), 1 - sizes[m])
        sizes[m] += add
        left -= u * add
    return {m: sizes.get(m, 0) for m in part}


def draw(
    space: Space, arch: Architecture, count: int, *, seed: int, budget: float = BUDGET
) -> list[Sized]:
    """`count` designs of `space` at random that meet the budget; others are drawn again.

    Each has a random generator of its own, seeded with `seed` and its place: the first designs of
    a longer draw are the same, and those at the same place in two spaces have much in common (see
    `Space.sample`). Raises FrugalError where 1,000 in a row miss the budget; it says how.
    """
    return [_drawn(space, arch, random.Random(f"{seed}/{i}"), budget) for i in range(count)]


def _drawn(space: Space, arch: Architecture, generator: random.Random, budget: float) -> Sized:
    for _ in range(TRIES - 1):
        with suppress(FrugalError):
            return solve(space.sample(generator), arch, budget)
    return solve(space.sample(generator), arch, budget)
