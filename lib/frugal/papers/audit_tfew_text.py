"""Audit of what T-Few's text and captions say about its numbers, and what the slides made of it."""

from collections.abc import Iterator
from decimal import Decimal
from statistics import mean, median

from frugal.costs import Scenario, arch, flops, memory, methods, prices
from frugal.costs.scenario import TFEW, TOKEN_BYTES
from frugal.papers import tables
from frugal.papers.audit_tfew import HOURS, claim, icl_tokens, nine_datasets
from frugal.papers.rules import Item, finding, judge, mean_of_row, number, significant

CACHED_TOKENS = int(TFEW["cached_tokens"])


def items() -> Iterator[Item]:
    yield from computation()
    yield from context()
    yield from memory_and_disk()
    yield from money()
    yield from accuracies()


def _stated(id_: str, rule: str, printed: str, recomputed: str, holds: bool, note: str) -> Item:
    """A claim that is no single number: it holds or it does not."""
    found = tables.claims()[id_]
    where = f"{found['where']}: {found['text']}"
    return finding(f"tfew/{id_}", where, rule, printed, recomputed, holds, note)


def computation() -> Iterator[Item]:
    """FLOPs, and what k shots multiply them by."""
    gpt3, t0 = arch.get("gpt3-175b"), arch.get("t0-11b")
    asked = Scenario(arch=t0, icl_arch=gpt3)
    few, query = asked.shots, asked.query_tokens
    icl, tfew = Scenario(arch=gpt3).query_flops(), Scenario(arch=t0, shots=0).query_flops()
    train = asked.train_flops()
    yield claim("inference-tfew", "N × tokens", tfew)
    yield claim("inference-gpt3-175b", "2N × tokens", icl)
    yield claim("training-tfew", "3N × tokens", train)
    yield claim("icl-ratio", "ICL / T-Few", icl / tfew, step=Decimal(1000))
    about = significant(tables.claims()["train-in-queries"]["printed"], 1)
    yield claim("train-in-queries", "training / ICL query", train / icl, step=about)
    note = f"{icl_tokens()} / {query}: one query in {few + 1} examples, of unequal lengths"
    yield claim("cache-saving", "tokens / query tokens", icl_tokens() / query, note=note)
    ensemble = few * (asked.example_tokens + query) / icl_tokens()
    yield claim("ensemble-factor", "k (example + query) / tokens", ensemble)
    larger = flops.paper_forward(gpt3, 1) / (2 * flops.paper_forward(t0, 1))
    yield claim("size-ratio", "2N / 2N", larger)

    cached = {
        name: Scenario(arch=arch.get(name), shots=0).query_flops() / tfew
        for name in ("gpt3-6.7b", "gpt3-13b", "gpt3-175b")
    }
    shown = ", ".join(f"{name} {ratio:.2f}×" for name, ratio in cached.items())
    printed = tables.claims()["cached-gpt3"]["printed"]
    note = f"true, but the smallest comes within {min(cached.values()) - 1:.0%} of T-Few"
    yield _stated(
        "cached-gpt3", "2N × query / T-Few", printed, shown, min(cached.values()) > 1, note
    )

    one, all_ = (
        flops.forward(gpt3, prompt_tokens=n * asked.example_tokens)["attention/scores"]
        for n in (1, few + 1)
    )
    factor, growth = few + 1, all_ // one
    yield _stated(
        "attention-deck",
        "attention scores of k + 1 examples / of one",
        f"k + 1 = {factor}",
        f"(k + 1)² = {growth}",
        factor == growth,
        "the paper says it of everything but self-attention, whose cost is quadratic",
    )


def context() -> Iterator[Item]:
    """Whether the prompts of the cost estimates fit the model they are about."""
    most = arch.get("gpt3-175b").positions
    fitting = (most - Scenario.query_tokens) // Scenario.example_tokens
    for id_, tokens, note in (
        (
            "context-window",
            icl_tokens(),
            f"{fitting} shots of {Scenario.example_tokens} tokens would fit: an average number of "
            "shots was multiplied by a median length",
        ),
        ("context-cache", CACHED_TOKENS, "an example of size; no GPT-3 reads so much"),
    ):
        yield _stated(
            id_,
            "tokens ≤ positions of GPT-3",
            f"{tokens:,} tokens",
            f"at most {most:,}",
            tokens <= most,
            note,
        )


def memory_and_disk() -> Iterator[Item]:
    """Bytes and parameters."""
    gpt3, t0 = arch.get("gpt3-175b"), arch.get("t0-11b")
    both = memory.kv_cache(gpt3, CACHED_TOKENS)
    note = f"one of K and V; both are {both / 1e9:.1f} GB = {both / 2**30:.1f} GiB"
    half = f"{both / 2e9:.1f} GB"
    yield claim("kv-cache-deck", "layers × d_model × tokens × 4", both // 2, note=note, shown=half)
    yield _gib("kv-cache-paper", "2 × layers × d_kv × tokens × 4", both)
    yield claim("token-ids-32x512", "4 bytes a token", TOKEN_BYTES * CACHED_TOKENS)
    yield _gib("t0-checkpoint", "4 bytes a parameter", memory.weights(t0))
    disk = number(tables.scores("tfew_table1")["", "T-Few"]["disk"]["printed"])
    yield claim("adapters-10000", "10,000 × 4.2 MB", 10_000 * disk)

    inner = 3 * (t0.layers + t0.decoder_layers) * t0.d_model
    true = methods.trainable(t0, "ia3")
    yield _stated(
        "ia3-formula-deck",
        "L_enc (d_k + d_v + d_ff) + L_dec (2 d_k + 2 d_v + d_ff)",
        f"{tables.claims()['ia3-formula-deck']['printed']} = {inner}",
        str(true),
        inner == true,
        f"d_ff is not d, and cross-attention is left out: {true / inner:.2f} times as many",
    )


def _gib(id_: str, rule: str, value: int) -> Item:
    """A size that is printed in GB and right in GiB."""
    found = tables.claims()[id_]
    printed = found["printed"]
    digits = printed.removesuffix(" GB")
    verdict = judge(printed, value)
    note = ""
    if verdict == "failed":
        verdict = judge(digits, Decimal(value) / 2**30)
        note = f"in GiB; in GB it is {value / 1e9:.1f}"
    shown = f"{value / 2**30:.2f} GiB"
    where = f"{found['where']}: {found['text']}"
    return finding(f"tfew/{id_}", where, rule, printed, shown, verdict, note)


def money() -> Iterator[Item]:
    """Half an hour, or an hour and a half, of an A100."""
    rate = prices.get("gpu", Scenario.gpu)
    for id_, time in (("dollars-paper", HOURS), ("dollars-deck", 1.5)):
        usd = time * rate.usd
        note = f"at ${rate.usd:g} an hour, which is {rate.state}"
        yield claim(id_, "hours × price", Decimal(str(usd)), note=note, shown=f"${usd:.2f}")


def accuracies() -> Iterator[Item]:
    """Medians that are means, and differences of printed averages."""
    shots = [int(r["shots"]) for r in tables.records("tfew_shots")]
    note = f"of {len(shots)} datasets; their mean is {mean(shots):.1f}"
    yield claim("shots-median", "median", median(shots), note=note)

    accuracy = {
        r: number(c["accuracy"]["printed"]) for (_, r), c in tables.scores("tfew_table1").items()
    }
    table9 = tables.scores("tfew_table9_main")
    medians = [median(nine_datasets(table9["", r])) for r in ("T-Few", "GPT-3 (175B)")]
    pair = (accuracy["T-Few"], accuracy["GPT-3 175B"])
    yield _stated(
        "accuracy-median",
        "median of nine datasets, ANLI's rounds averaged",
        f"{pair[0]} against {pair[1]}",
        f"{medians[0]:.1f} against {medians[1]:.1f}",
        tuple(round(m, 1) for m in medians) == pair,
        "the printed ones are means over 11 rows, ANLI three times; by the median GPT-3 leads",
    )
    margin = accuracy["T-Few"] - accuracy["GPT-3 175B"]
    yield claim("gpt3-margin", "72.4 − 66.6", margin, note=f"{pair[0]} − {pair[1]}")

    mean0 = mean_of_row([number(c["printed"]) for c in table9["", "T0"].values()])
    note = f"T0's own row averages {mean0:.1f}, not {accuracy['T0']}"
    yield claim("gain-over-t0", "72.4 − mean_of_row", accuracy["T-Few"] - mean0, note=note)

    ablation = tables.scores("tfew_table10_ablation")
    whole = number(ablation["", "T-Few"]["average"]["printed"])
    for id_, row in (
        ("ablation-pretraining", "- PT"),
        ("ablation-losses", "- LUL - LLN"),
        ("ablation-drop", "- PT - LUL - LLN"),
    ):
        least = number(ablation["", row]["average"]["printed"])
        yield claim(id_, f"72.4 − {least}", whole - least, note=f"{whole} − {least}")

    raft = {
        r: number(c["accuracy"]["printed"])
        for (_, r), c in tables.scores("tfew_table2_raft").items()
    }
    best = max(v for r, v in raft.items() if r != "T-Few" and "Human" not in r)
    human = raft["Human baseline [2]"]
    note = f"over the next method; over the human baseline {raft['T-Few'] - human}"
    yield claim("raft-margin", "75.8 − 69.6", raft["T-Few"] - best, note=note)
    columns = tables.scores("tfew_table11_raft")["", "T-Few"].keys() - {"average"}
    note = "appendix H then names ten; Semiconductor Org Types is missing"
    yield claim("raft-tasks", "columns of table 11", len(columns), note=note)
