"""Chapter 1: the FLOPs of queries and trainings, break-even, the cache."""

import math

from frugal.costs import Scenario, arch, memory, scenario
from frugal.papers import audit, tables
from frugal.papers.audit_tfew_text import CACHED_TOKENS
from frugal_course.exercises.exercise import Exercise

TITLE = "Costs"
KOREAN = (
    "질의, 학습, K/V 캐시의 비용을 식으로 직접 계산하고, 학습 비용이 회수되는 질의 수를 구한다. 끝에서는 검산 결과를 읽고, "
    "비용이 불확실해도 결론이 나는 실험의 길이를 정한다."
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


def surely_paid(training: float, query: float, icl_query: float, doubt: float) -> int | None:
    """Queries after which training has paid for itself even if each cost is off by `doubt`; or None.

    training, query, icl_query: what each is expected to cost; doubt: a share, such as 0.2
    """
    saved = icl_query * (1 - doubt) - query * (1 + doubt)
    return math.ceil(training * (1 + doubt) / saved) if saved > 0 else None


def audit_says() -> str:
    """a, b, c or d: the one sentence that the table bears."""
    return "b"


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
_options = {o.name: o for o in Scenario(arch=T0, icl_arch=GPT3).compare()}
_paid = _options["icl-cached"].query_flops
_extra = _training - _options["icl-cached"].once  # filling the cache is paid for once, too

_checked = audit.run()
_all, _failed = len(_checked), audit.summary(_checked)["failed"]
WHOSE = {"paper": "the papers'", "deck": "the deck's", "assumption": "under an assumption"}
WHOSE |= {"typography": "typography"}
_findings = audit.findings(_checked)
_cells = {column: [f.cells for f in _findings if f.column == column] for column in WHOSE}
_own_cells, _own_findings = sum(_cells["paper"]), len(_cells["paper"])
_counted = "\n".join(f"| {WHOSE[c]} | {len(n)} | {sum(n)} |" for c, n in _cells.items())

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
            "Queries come whole: round up to the next one, for before it the training has not "
            "quite been paid for.": lambda t, q, icl: t / (icl - q) if icl > q else None,
            "One too many where it comes out even: from that very query on it costs no more.": lambda t, q, icl: (
                int(t // (icl - q)) + 1 if icl > q else None
            ),
            "Two things: queries come whole, so round up; and where a query saves nothing, no number of "
            "them pays for the training: None.": lambda t, q, icl: t / (icl - q),
            "Right where ICL is dearer. Where both queries cost the same, or ICL's less, no number of "
            "them pays for the training: None.": lambda t, q, icl: math.ceil(t / (icl - q)),
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
    Exercise(
        audit_says,
        title="Interpret: what does the audit say?",
        text=f"""\
Notebook 01, section 9, checked {_all} printed numbers. {_failed} do not reproduce:

| whose | findings | numbers |
|---|---|---|
{_counted}

Which sentence may stand in a report?

- **a** "{_failed / _all:.0%} of the numbers that the three papers print are wrong."
- **b** "In the papers' own numbers there are {_own_findings} slips; {_own_cells} of the {_all} numbers checked are wrong by them."
- **c** "Most of the numbers that fail are the papers' own slips."
- **d** "{sum(_cells["assumption"])} claims of significance are refuted.\"""",
        difficulty=1,
        minutes=5,
        cases=[()],
        mistakes={
            f"{_failed} of {_all} fail, but whose are they? The deck's lost header rows, tests that "
            "assume a deviation, and typography are among them.": lambda: "a",
            f"Count again: {_own_cells} of {_failed} are the papers' own; the deck alone has more.": lambda: (
                "c"
            ),
            "They fail under an assumption: the paper prints one deviation of the two that the test "
            "needs. If it is another, so is the verdict.": lambda: "d",
        },
        learned="A failed number is not a finding, and a finding has an owner. "
        "Every number is in data/results/audit.csv.",
        reference=lambda: "b" if _own_cells < _failed / 2 else "c",
    ),
    Exercise(
        surely_paid,
        title="Design the run that would settle it",
        text="""\
Does T-Few pay against a *cached* prompt? FLOPs are known, but what a FLOP costs differs between a training, a short
query and a long cached prompt: utilisation alone moves by tens of percent. Say that each of the three costs may be off by the
share `doubt`, up or down, each by itself. After how many queries has training paid for itself *whatever* the three are? That is how
long a trial must run. `None` where no trial settles it.""",
        difficulty=3,
        minutes=15,
        cases=[
            (_training, _query, _icl, 0.2),
            (_extra, _query, _paid, 0.2),
            (_extra, _query, _paid, 0.0),
            (_training, _query, 1.3 * _query, 0.2),
            (100.0, 1.0, 3.0, 0.2),
        ],
        mistakes={
            "That is without the doubt.": lambda t, q, icl, _: break_even(t, q, icl),
            "That is the best case: there training is cheap and prompts are dear. Take the worst.": lambda t, q, icl, d: (
                surely_paid(t, q, icl, -d)
            ),
            "Only ICL is doubted. Training and the tuned model's queries may cost more, too.": lambda t, q, icl, d: (
                break_even(t, q, icl * (1 - d))
            ),
            "Only the training is doubted, as if the answer were. Each query's saving is doubtful, too.": lambda t, q, icl, d: (
                break_even(t * (1 + d), q, icl)
            ),
            "The tuned model's queries may cost more, too; you doubt the training and ICL.": lambda t, q, icl, d: (
                break_even(t * (1 + d), q, icl * (1 - d))
            ),
            "Queries come whole: round up.": lambda t, q, icl, d: (
                t * (1 + d) / (icl * (1 - d) - q * (1 + d)) if icl * (1 - d) > q * (1 + d) else None
            ),
        },
        learned=f"Against a cached prompt it takes {surely_paid(_extra, _query, _paid, 0.2):,} queries with "
        f"20 % doubt, where {break_even(_extra, _query, _paid):,} are expected.",
    ),
]
