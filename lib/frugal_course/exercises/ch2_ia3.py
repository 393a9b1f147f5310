"""Chapter 2: (IA)³'s vectors counted, folded into weights, and mixed in a batch."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from frugal import data, stats
from frugal.costs import arch, methods
from frugal.papers import tables
from frugal_course.exercises.exercise import Exercise

TITLE = "(IA)³"
KOREAN = "(IA)³ 파라미터 수를 식으로 세고, 벡터를 가중치에 병합하며, 여러 과제가 섞인 배치를 직접 구현한다. 끝에서는 그림 2의 기록을 읽고, 두 방법을 가르는 데 필요한 글의 수를 구한다."
IMPORTS = "import math\n\nimport numpy as np"
Tensor = NDArray[np.float64]
NAMES = {"full": "Full fine-tuning", "bitfit": "BitFit", "layernorm": "LayerNorm"}
NAMES |= {"prompt-10": "Prompt tuning (10)", "prefix": "Prefix tuning"}
NAMES |= {"fish 0.2 %": "FISH 0.2 %", "lora": "LoRA", "ia3": "(IA)³"}
T0_3B, T0_11B = arch.get("t0-3b"), arch.get("t0-11b")
_random = np.random.default_rng(0)


def _values(*shape: int) -> Tensor:
    return _random.standard_normal(shape)


def ia3_params(encoder_layers: int, decoder_layers: int, d: int, d_ff: int) -> int:
    """Numbers that (IA)³ trains; d: the width of keys, and of values, of all heads together."""
    encoder = encoder_layers * (2 * d + d_ff)
    decoder = decoder_layers * (4 * d + d_ff)
    return encoder + decoder


def fold(weight: np.ndarray, bias: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weight, bias) of a linear layer x -> W x + b whose output was multiplied by `scale`."""
    return scale[:, None] * weight, scale * bias


def fold_feed_forward(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """W_2, (d_model, d_ff), with l_ff folded in, which multiplies what goes into W_2."""
    return weight * scale[None, :]


def mixed_batch(
    keys: np.ndarray, vectors: dict[str, np.ndarray], tasks: list[str | None]
) -> np.ndarray:
    """Keys, (batch, tokens, d), each row times its own task's vector; None: the row as it is."""
    ones = np.ones_like(keys[0, 0])
    scales = np.stack([ones if task is None else vectors[task] for task in tasks])
    return keys * scales[:, None, :]


def texts_needed(difference: float, disagree: float) -> int:
    """Texts on which two methods must be compared to tell `difference` from 0, in 8 runs of 10.

    difference: of their accuracies, a fraction; disagree: the share of texts that one of the two
    gets right and the other wrong
    """
    variance = disagree - difference**2
    return math.ceil(variance * ((1.96 + 0.84) / difference) ** 2)


def figure_says() -> str:
    """a, b, c or d: the one sentence that the table bears."""
    return "d"


def _rows(vectors: Mapping[str, Tensor], tasks: Sequence[str | None]) -> Tensor:
    """Each row's vector, and zero for None."""
    zero = np.zeros_like(next(iter(vectors.values())))
    return np.stack([zero if task is None else vectors[task] for task in tasks])[:, None, :]


def _counted(encoder_layers: int, decoder_layers: int, d: int, d_ff: int) -> int:
    sizes = {"d_model": d, "heads": d, "kv_heads": d, "head_size": 1, "d_ff": d_ff}
    shape = T0_11B.replace(layers=encoder_layers, decoder_layers=decoder_layers, **sizes)
    return methods.trainable(shape, "ia3")


_tasks = {"a": _values(3), "b": _values(3)}
_said = {name: claim["printed"] for name, claim in tables.claims().items()}
_params, _nominal = methods.trainable(T0_11B, "ia3"), T0_11B.layers * 2 * 3 * T0_11B.d_model
_runs: dict[str, list[dict[str, str]]] = {}
for _row in data.rows("results/figure2.csv"):
    _runs.setdefault(_row["name"], []).append(_row)
_texts = int(next(iter(_runs.values()))[0]["examples"])
_draws = {name: [100 * float(run["accuracy"]) for run in own] for name, own in _runs.items()}
_means = {name: fmean(own) for name, own in _draws.items()}
_best = max(_means, key=_means.__getitem__)
_range = max(_means.values()) - min(_means.values())
_moved = max(max(own) - min(own) for own in _draws.values())
_low, _high = stats.wilson(round(_means[_best] * _texts / 100), _texts)
_alone = 50 * (_high - _low)
_dearest = max(_runs, key=lambda name: int(_runs[name][0]["trainable_params"]))


def _name(method: str) -> str:
    return NAMES.get(method, method.capitalize())


def _line(name: str) -> str:
    draws = " and ".join(f"{score:.0f}" for score in _draws[name])
    trained = int(_runs[name][0]["trainable_params"])
    return f"| {_name(name)} | {trained:,} | {_means[name]:.1f} | {draws} |"


_table = "\n".join(map(_line, _runs))

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
            "outputs, the rows of W. (With a square W nothing else notices.)": lambda w, b, s: (
                w * s,
                s * b,
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
            "in, the columns of W_2.": lambda w, s: s[:, None] * w,
            "As folded into W_1: that is scaled before the nonlinearity, and W_2 stays as it is.": lambda w, s: (
                w
            ),
            "l_ff multiplies; you add it.": lambda w, s: w + s,
        },
        learned="Scaling the input of W_2 is right for gated feed-forwards too.",
    ),
    Exercise(
        mixed_batch,
        title="A batch of several tasks",
        text="""\
One batch may hold rows of several tasks. `tasks` names each row's task, or None for a row that the
base model answers. Return the scaled keys, without a loop over tokens. (The slide says that the
vectors are simply added. Hugging Face's `peft` mixes a batch for LoRA, at inference; for (IA)³ it does not.)""",
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
            "Face's peft does what you did, without an error (its LoRA does mix a batch, at inference).": lambda keys, vectors, tasks: (
                keys * vectors[next(filter(None, tasks))]
            ),
            "A row may have no task, and None is no key of `vectors`. Such a row stays as the base "
            "model has it, as if its vector were all ones.": lambda keys, vectors, tasks: (
                keys * np.stack([vectors[task] for task in tasks])[:, None, :]
            ),
            "Each row's vector stands against the tokens, not against the rows: give it an axis for "
            "them, [:, None, :].": lambda keys, vectors, tasks: (
                keys * np.stack([vectors.get(task, np.ones(3)) for task in tasks])
            ),
            "A row without a task became zero. The base model is what a vector of ones gives.": lambda keys, vectors, tasks: (
                keys * _rows(vectors, tasks)
            ),
        },
        learned="A mixed batch costs one multiplication for each scaled number more.",
    ),
    Exercise(
        figure_says,
        title="Interpret: Figure 2, recorded",
        text=f"""\
Notebook 02's long run (data/results/figure2.csv) trained every method on two draws of labels, and asked each the
same {_texts} texts. Accuracy in percent:

| method | trained | mean | by draw |
|---|---|---|---|
{_table}

Which sentence does the table bear?

- **a** "{_name(_best)} is the best of the {len(_runs)} methods."
- **b** "The more numbers a method trains, the more accurate it is."
- **c** "All methods are equally good; it does not matter which one is taken."
- **d** "Two draws and {_texts} texts rank nothing here: the means span {_range:.1f} points, and a draw alone moves a method by up to {_moved:.0f}.\"""",
        difficulty=1,
        minutes=5,
        cases=[()],
        mistakes={
            f"It has the highest mean of {len(_runs)}, and somebody has to. The best of many is "
            "flattered by luck, and two draws carry no interval.": lambda: "a",
            f"{_name(_dearest)} trains the most and has {_means[_dearest]:.1f}; look at what trains less than a "
            "hundredth of that.": lambda: "b",
            "That no difference was seen does not say that there is none: so small a run excludes "
            "only large ones.": lambda: "c",
        },
        learned=f"The best mean is {_name(_best)}'s, {_range:.1f} points above the lowest. On {_texts} texts one accuracy "
        f"alone is known to ±{_alone:.0f} points.",
        reference=lambda: "d" if _moved >= _range else "a",
    ),
    Exercise(
        texts_needed,
        title="Design the run that would settle it",
        text="""\
Is (IA)³ better than LoRA by three points? Both answer the **same** $n$ texts. A text on which they agree says nothing,
so only the share $u$ counts on which one is right and the other wrong: the mean of the paired differences has variance
$(u - d^2)/n$, where $d$ is the true difference. The 95 % interval leaves out 0 in 8 runs of 10 if $d$ is at least $1.96 + 0.84$
standard errors. How many texts must the run have, for one training of each?""",
        difficulty=3,
        minutes=15,
        cases=[(0.03, 0.12), (0.03, 0.3), (0.01, 0.1), (0.2, 0.4)],
        mistakes={
            "With 1.96 alone the interval leaves out 0 in half of the runs. 0.84 more makes it 8 of "
            "10.": lambda d, u: math.ceil((u - d**2) * (1.96 / d) ** 2),
            "The standard error has the root of n in it, so n needs the square: (2.8 / d)².": lambda d, u: (
                math.ceil((u - d**2) * 2.8 / d)
            ),
            "That is for two methods that answer different texts, each right on half of them: 2·p(1-p) = 1/2. "
            "Paired, only the texts on which they disagree count.": lambda d, u: math.ceil(
                0.5 * (2.8 / d) ** 2
            ),
            "The mean's square is missing: the variance of the differences is u - d².": lambda d, u: (
                math.ceil(u * (2.8 / d) ** 2)
            ),
            "Texts come whole: round up.": lambda d, u: (u - d**2) * (2.8 / d) ** 2,
        },
        learned=f"Three points between methods that disagree on 12 % of texts take {texts_needed(0.03, 0.12):,} texts; "
        f"Figure 2 above had {_texts}. Other draws of labels come on top: chapter 3 designs those.",
    ),
]
