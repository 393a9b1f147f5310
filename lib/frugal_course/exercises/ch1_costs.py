"""Chapter 1: the FLOPs of queries and trainings, break-even, the cache."""

import math

from frugal.costs import Scenario, arch, memory, scenario
from frugal.papers import tables
from frugal.papers.audit_tfew_text import CACHED_TOKENS
from frugal_course.exercises.exercise import Exercise

TITLE = "Costs"
KOREAN = (
    "질의, 학습, K/V 캐시의 비용을 식으로 직접 계산하고, 학습 비용이 회수되는 질의 수를 구한다."
)
IMPORTS = "import math"
GPT3, T0, SMALL = arch.get("gpt3-175b"), arch.get("t0-11b"), arch.get("gpt3-6.7b")
PAPER = Scenario.shots, Scenario.example_tokens, Scenario.query_tokens
SAID = {name: claim["printed"] for name, claim in tables.claims().items()}


def query_flops(
    params: float, kind: str, shots: int, example_tokens: int, query_tokens: int
) -> float:
    """FLOPs of one ICL query by the paper's rule; kind: "decoder-only" or "encoder-decoder"."""
    tokens = shots * example_tokens + query_tokens
    return (2 if kind == "decoder-only" else 1) * params * tokens


def break_even(training: float, query: float, icl_query: float) -> int | None:
    """Queries after which a training (FLOPs) and its queries cost no more than ICL; or None."""
    saved = icl_query - query
    return math.ceil(training / saved) if saved > 0 else None


def kv_cache_gib(layers: int, width: int, tokens: int, number_bytes: int) -> float:
    """GiB that the keys and values of so many tokens take, of all heads together `width` wide."""
    return 2 * layers * width * tokens * number_bytes / 2**30


def ensemble_flops(params: float, shots: int, example_tokens: int, query_tokens: int) -> float:
    """FLOPs of one ensemble-ICL query to an encoder–decoder of so many parameters."""
    return shots * params * (example_tokens + query_tokens)


def _of(params: float, kind: str) -> arch.Architecture:
    return (GPT3 if kind == "decoder-only" else T0).replace(nominal_params=params)


def _ensemble(params: float, shots: int, example_tokens: int, query_tokens: int) -> float:
    asked = Scenario(
        arch=_of(params, "encoder-decoder"),
        shots=shots,
        example_tokens=example_tokens,
        query_tokens=query_tokens,
    )
    return next(o for o in asked.compare() if o.name == "icl-ensemble").query_flops


_icl = Scenario(arch=GPT3).query_flops()
_own = Scenario(arch=T0).query_flops()
_query = Scenario(arch=T0, shots=0).query_flops()
_training = Scenario(arch=T0).train_flops()
_many, _one = _ensemble(11e9, *PAPER), _own

EXERCISES = [
    Exercise(
        query_flops,
        title="What a query costs",
        text=f"""\
An in-context query has $k$ examples of $E$ tokens in front of its own $Q$ tokens. A decoder-only
model spends $2N$ FLOPs on a token, an encoder–decoder $N$: a token passes only one of its halves.
Write the rule down. With the paper's {Scenario.shots} examples of {Scenario.example_tokens} tokens and a query of {Scenario.query_tokens}
it must give Table 1's numbers, or show which of them do not follow.""",
        difficulty=1,
        minutes=5,
        cases=[
            (175e9, "decoder-only", *PAPER),
            (11e9, "encoder-decoder", *PAPER),
            (11e9, "encoder-decoder", 0, Scenario.example_tokens, Scenario.query_tokens),
            (6.7e9, "decoder-only", 4, 50, 20),
        ],
        mistakes={
            "The query's own tokens are missing: the model reads the examples and the query. "
            "Table 1's GPT-3 6.7B and 13B rows make the same mistake.": lambda n, kind, k, e, q: (
                query_flops(n, kind, k, e, 0)
            ),
            "An encoder–decoder is counted like a decoder-only model. Each of its tokens passes "
            "the encoder or the decoder, about half of the parameters: N FLOPs, not 2N.": lambda n, _, *tokens: (
                query_flops(n, "decoder-only", *tokens)
            ),
            "A multiplication and an addition for each parameter make 2N a token in a "
            "decoder-only model; you count one of the two.": lambda n, _, *tokens: query_flops(
                n, "encoder-decoder", *tokens
            ),
            "The query is counted once for every example. It stands once, behind all of them.": lambda n, kind, k, e, q: (
                query_flops(n, kind, k, e + q, 0)
            ),
        },
        learned=f"An ICL query to GPT-3 175B takes {_icl:.3g} FLOPs, {_icl / _query:,.0f} T-Few "
        f"queries (printed: {SAID['icl-ratio']}).",
        reference=lambda n, kind, k, e, q: Scenario(
            arch=_of(n, kind), shots=k, example_tokens=e, query_tokens=q
        ).query_flops(),
    ),
    Exercise(
        break_even,
        title="When has the training paid for itself?",
        text=f"""\
T-Few pays once for training and then little for each query; ICL pays nothing at first and much for
each query. From how many queries on has training cost *no more*? Where a query after training is
not cheaper than an ICL query, the answer is `None`. The paper says about {SAID["train-in-queries"]}
queries to GPT-3 175B.""",
        difficulty=2,
        minutes=10,
        cases=[
            (_training, _query, _icl),
            (_training, _query, _own),
            (100.0, 1.0, 3.0),
            (101.0, 1.0, 3.0),
            (100.0, 3.0, 3.0),
            (100.0, 4.0, 3.0),
        ],
        mistakes={
            "A tuned model's queries are not free: each query saves only the difference of the "
            "two, so divide the training by that.": lambda t, q, icl: break_even(t, 0, icl),
            "Rounded down: after so many queries the training has not quite been paid for. "
            "Take the next whole number.": lambda t, q, icl: (
                int(t // (icl - q)) if icl > q else None
            ),
            "Where a query saves nothing, no number of queries pays for the training: None.": lambda t, q, icl: (
                math.ceil(t / (icl - q)) if icl != q else None
            ),
        },
        learned=f"{scenario.break_even(_training, _query, 0, _icl)} queries to GPT-3 175B, but "
        f"{scenario.break_even(_training, _query, 0, _own)} to a model of T-Few's own size.",
        reference=lambda t, q, icl: scenario.break_even(t, q, 0, icl),
    ),
    Exercise(
        kv_cache_gib,
        title="The cache that does not fit",
        text=f"""\
The paper says that {SAID["context-cache"]} tokens of GPT-3 take over {SAID["kv-cache-paper"]} of
cached keys and values in float32; the slide's formula is *{tables.claims()["kv-cache-deck"]["text"]}*. Which of the two
follows from the sizes of the model? Compute the cache in GiB, $2^{{30}}$ bytes.""",
        difficulty=1,
        minutes=5,
        cases=[
            (GPT3.layers, GPT3.d_kv, CACHED_TOKENS, 4),
            (GPT3.layers, GPT3.d_kv, CACHED_TOKENS, 2),
            (32, 1024, 8192, 2),
        ],
        mistakes={
            "That is the keys alone, as in the slide's formula. The values take as much again.": lambda *sizes: (
                kv_cache_gib(*sizes) / 2
            ),
            "That is GB, of 10⁹ bytes. One GiB has 2³⁰ bytes; the printed 144 is in GiB.": lambda *sizes: (
                kv_cache_gib(*sizes) * 2**30 / 1e9
            ),
            "That is the keys alone, and in GB: two things at once.": lambda *sizes: (
                kv_cache_gib(*sizes) * 2**30 / 2e9
            ),
            "That is bytes; divide by 2³⁰.": lambda *sizes: kv_cache_gib(*sizes) * 2**30,
        },
        learned=f"{memory.kv_cache(GPT3, CACHED_TOKENS) / memory.GIB:.1f} GiB: the paper counts keys "
        "and values, in GiB.",
        reference=lambda layers, d, t, b: (
            memory.kv_cache(
                GPT3.replace(layers=layers, heads=d, kv_heads=d, head_size=1),
                t,
                dtype={2: "bfloat16", 4: "float32"}[b],
            )
            / memory.GIB
        ),
    ),
    Exercise(
        ensemble_flops,
        title="ICL with an encoder–decoder, as it was really run",
        text="""\
An encoder–decoder reads short inputs, so T5+LM used *ensemble* ICL: one pass for each of the $k$
examples, each with that example and the query in it, and the answers averaged. Table 1 prices it as
one long pass. What do the $k$ passes cost?""",
        difficulty=2,
        minutes=5,
        cases=[
            (11e9, *PAPER),
            (3e9, 4, 50, 20),
            (11e9, 1, Scenario.example_tokens, Scenario.query_tokens),
        ],
        mistakes={
            "That is one long pass over all examples, as Table 1 prices it. In an ensemble "
            "every pass reads the query again.": lambda n, k, e, q: n * (k * e + q),
            "An encoder–decoder takes N FLOPs a token, not 2N.": lambda *asked: (
                2 * ensemble_flops(*asked)
            ),
        },
        learned=f"The ensemble takes {_many:.3g} FLOPs, {_many / _one:.2f} times what Table 1 lists "
        "for one pass.",
        reference=_ensemble,
    ),
]
