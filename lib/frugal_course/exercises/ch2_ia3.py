"""Chapter 2: (IA)³'s vectors counted, folded into weights, and mixed in a batch."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from frugal.costs import arch, methods
from frugal.papers import tables
from frugal_course.exercises.exercise import Exercise

TITLE = "(IA)³"
KOREAN = "(IA)³ 파라미터 수를 식으로 세고, 벡터를 가중치에 병합하며, 여러 과제가 섞인 배치를 직접 구현한다."
IMPORTS = "import torch"
T0_3B, T0_11B = arch.get("t0-3b"), arch.get("t0-11b")
_random = torch.Generator().manual_seed(0)


def _values(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_random, dtype=torch.float64)


def ia3_params(encoder_layers: int, decoder_layers: int, d: int, d_ff: int) -> int:
    """Numbers that (IA)³ trains; d: the width of keys, and of values, of all heads together."""
    encoder = encoder_layers * (2 * d + d_ff)
    decoder = decoder_layers * (4 * d + d_ff)
    return encoder + decoder


def fold(
    weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, bias) of a linear layer x -> W x + b whose output was multiplied by `scale`."""
    return scale[:, None] * weight, scale * bias


def fold_feed_forward(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """W_2, (d_model, d_ff), with l_ff folded in, which multiplies what goes into W_2."""
    return weight * scale[None, :]


def mixed_batch(
    keys: torch.Tensor, vectors: dict[str, torch.Tensor], tasks: list[str | None]
) -> torch.Tensor:
    """Keys, (batch, tokens, d), each row times its own task's vector; None: the row as it is."""
    ones = torch.ones_like(keys[0, 0])
    scales = torch.stack([ones if task is None else vectors[task] for task in tasks])
    return keys * scales[:, None, :]


def _rows(vectors: Mapping[str, Tensor], tasks: Sequence[str | None]) -> Tensor:
    """Each row's vector, and zero for None."""
    zero = torch.zeros_like(next(iter(vectors.values())))
    return torch.stack([zero if task is None else vectors[task] for task in tasks])[:, None, :]


def _counted(encoder_layers: int, decoder_layers: int, d: int, d_ff: int) -> int:
    sizes = {"d_model": d, "heads": d, "kv_heads": d, "head_size": 1, "d_ff": d_ff}
    shape = T0_11B.replace(layers=encoder_layers, decoder_layers=decoder_layers, **sizes)
    return methods.trainable(shape, "ia3")


_tasks = {"a": _values(3), "b": _values(3)}
_said = {name: claim["printed"] for name, claim in tables.claims().items()}
_params, _nominal = methods.trainable(T0_11B, "ia3"), T0_11B.layers * 2 * 3 * T0_11B.d_model

EXERCISES = [
    Exercise(
        ia3_params,
        title="How many numbers are trained?",
        text=f"""\
(IA)³ puts $l_k$ and $l_v$ into **every attention** and $l_{{ff}}$ into every feed-forward. An
encoder's layer has one attention; how many has a decoder's? The slide counts {_said["ia3-formula-deck"]}, the paper
prints {_said["ia3-params-3b"]} for T0-3B.""",
        difficulty=1,
        minutes=10,
        cases=[
            (a.layers, a.decoder_layers, a.d_kv, a.d_ff)
            for a in (T0_3B, T0_11B, arch.get("t5-v1_1-small"))
        ]
        + [(2, 1, 8, 20)],
        mistakes={
            "Cross-attention is missing: a decoder's layer attends to its own text and to the "
            "encoder's, each with an l_k and an l_v.": lambda enc, dec, d, ff: (
                (enc + dec) * (2 * d + ff)
            ),
            "L·3·d is the slide's: it takes d_ff for d, and leaves out cross-attention.": lambda enc, dec, d, ff: (
                (enc + dec) * 3 * d
            ),
            "The encoder has no cross-attention: its layers have one attention each.": lambda enc, dec, d, ff: (
                (enc + dec) * (4 * d + ff)
            ),
        },
        learned=f"T0-11B has {_params:,}: {_params / _nominal:.2f} times what L·3·d gives.",
        reference=_counted,
    ),
    Exercise(
        fold,
        title="Folding l_k and l_v into the weights",
        text="""\
$l \\odot (W x + b)$ is again a linear layer. Return its weight and bias, so that a tuned model
costs nothing more than the base model. torch stores $W$ as (outputs, inputs); `bias` is a vector.""",
        difficulty=1,
        minutes=10,
        cases=[(_values(3, 3), _values(3), _values(3)), (_values(2, 4), _values(2), _values(2))],
        mistakes={
            "The columns are scaled: that scales the inputs of the layer. l multiplies its "
            "outputs, the rows of W. (With a square W, torch does not notice.)": lambda w, b, s: (
                (w * s, s * b) if w.shape[0] == w.shape[1] else (s[:, None] * w, s * b)
            ),
            "The bias is part of the output too: l ⊙ (W x + b) = (l ⊙ W) x + l ⊙ b.": lambda w, b, s: (
                s[:, None] * w,
                b,
            ),
            "l multiplies; you add it.": lambda w, b, s: (w + s[:, None], b + s),
        },
        learned="Merged, (IA)³ adds no operation to a query.",
    ),
    Exercise(
        fold_feed_forward,
        title="Folding l_ff",
        text="""\
In $(l_{ff} \\odot \\gamma(W_1 x))\\,W_2$ the vector stands *before* the second matrix, behind a
nonlinearity. So it cannot go into $W_1$; fold it into $W_2$, which torch stores as (d_model,
d_ff).""",
        difficulty=1,
        minutes=5,
        cases=[(_values(3, 3), _values(3)), (_values(2, 4), _values(4))],
        mistakes={
            "The rows are scaled: that scales what W_2 puts out. l_ff multiplies what goes "
            "in, the columns of W_2.": lambda w, s: (
                s[:, None] * w if w.shape[0] == w.shape[1] else w * s
            )
        },
        learned="Scaling the input of W_2 is right for gated feed-forwards too.",
    ),
    Exercise(
        mixed_batch,
        title="A batch of several tasks",
        text="""\
One batch may hold rows of several tasks. `tasks` names each row's task, or None for a row that the
base model answers. Return the scaled keys, without a loop over tokens. (The slide says that the
vectors are simply added.)""",
        difficulty=2,
        minutes=10,
        cases=[
            (_values(3, 2, 3), _tasks, ["a", "b", None]),
            (_values(4, 2, 3), _tasks, ["b", "b", "a", "a"]),
            (_values(3, 3, 3), _tasks, ["b", None, "a"]),
        ],
        mistakes={
            "The vectors are added, as the slide says. (IA)³ multiplies: l ⊙ K.": lambda keys, vectors, tasks: (
                keys + _rows(vectors, tasks)
            ),
            "Every row got the same vector. Each row has its own task's; the (IA)³ of Hugging "
            "Face's peft does what you did, without an error.": lambda keys, vectors, tasks: (
                keys * vectors[next(filter(None, tasks))]
            ),
            "A row without a task became zero. The base model is what a vector of ones gives.": lambda keys, vectors, tasks: (
                keys * _rows(vectors, tasks)
            ),
        },
        learned="A mixed batch costs one multiplication for each scaled number more.",
    ),
]
