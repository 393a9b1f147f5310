"""Chapter 2 in words: titles and takeaways, the finding first; at most 240 letters each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from frugal.stats import Difference
from frugal_course.figures.closing import Claim, compared
from frugal_course.figures.style import duration
from frugal_course.figures.tables import readable
from frugal_course.names import name

Words = tuple[str, str]  # a title, and the sentence under the figure
ROUNDING = 1e-4  # logits further apart than this differ


def by_hand(gap: float, moved: float, at_start: bool) -> str:
    """Whether the equations and the library agree, and what vectors of ones do."""
    agree = "agree" if gap < 1e-5 else "do not agree"
    change = "nothing, bit for bit" if at_start else "something"
    return (
        f"The equations and peft.attach {agree}: within {gap:.0e}, where random vectors move "
        f"outputs "
        f"by up to {moved:.2f}. Vectors of ones change {change}."
    )


def vectors_of(
    where: Mapping[str, Mapping[str, int]], sums: Mapping[str, Mapping[str, int]]
) -> pd.DataFrame:
    """How many numbers each kind of vector has, and all of them; a column a model."""
    every = {model: {**where[model], **sums[model]} for model in where}
    size = {model: f"{4 * mine['counted'] / 2**20:.3f}" for model, mine in sums.items()}
    table = readable(pd.DataFrame(every).rename_axis("vectors of"))
    table.loc["MiB in float32"] = list(size.values())
    return table


def deck_formula(sums: Mapping[str, Any], cross: float, wide: int, d: int) -> str:
    """By how much L·3·d is short, and why."""
    counted, deck = sums["counted"], sums["slides: L·3·d"]
    return (
        f"L·3·d is short by {counted / deck:.2f} times for T0-11B ({counted:,} numbers, by "
        f"formula and "
        f"by count): it takes d_ff for d, though {wide:,} is {wide / d:.1f} times {d:,}, and "
        f"leaves out "
        f"cross-attention, {cross:.0%} of all."
    )


def together(shared: Mapping[str, "np.ndarray[Any, Any]"], widths: Mapping[str, int]) -> Words:
    """Whether two trainings move the same features.

    shared: by kind, a layer's correlation each; widths: features of a layer, by kind
    """
    mean = {kind: float(np.mean(values)) for kind, values in shared.items()}
    every = np.concatenate(list(shared.values()))
    above = sum(int((values > 1.96 / widths[kind] ** 0.5).sum()) for kind, values in shared.items())
    third = max(1, len(next(iter(shared.values()))) // 3)
    first = float(np.mean([values[:third].mean() for values in shared.values()]))
    last = float(np.mean([values[-third:].mean() for values in shared.values()]))
    alike = "Two tasks move the same features" if every.mean() > 0.1 else "Each task moves its own"
    deeper = ", the more the deeper" if last > first + 0.1 else ""
    return (
        f"{alike}{deeper}: their vectors correlate by {every.mean():.2f}",
        f"By {first:.2f} in the first {third} layers, {last:.2f} in the last {third}; on average "
        + ", ".join(f"{value:.2f} ({kind})" for kind, value in mean.items())
        + f". {above} of {len(every)} layers' vectors are above what chance reaches.",
    )


def distances(loss: Sequence[float], steps: int, typical: Mapping[str, float], most: float) -> str:
    """How far the vectors moved, and what this does not say."""
    near = ", ".join(f"{value:.4f} ({kind})" for kind, value in typical.items())
    return (
        f"In {steps} steps the loss falls from {loss[0]:.2f} to {loss[-1]:.2f} nats; numbers are "
        f"{near} from 1 on average, at most {most:.3f}. Adafactor's steps have one size: which "
        f"kind "
        "matters most cannot be read off here."
    )


def folded(same: float, count: int, gap: float, restored: bool) -> str:
    """What merging changes, and what unmerging brings back."""
    bits = "bit-identical" if restored else "not bit-identical"
    return (
        f"Folded, {same:.0%} of {count} answers are the same and scores within {gap:.0e}, "
        f"without a "
        f"hook; after unmerge the weights are {bits} to what they were."
    )


def unmerged(found: pd.DataFrame) -> str:
    """What one merge and unmerge leaves changed: frugal's rows first, Hugging Face's behind."""
    ours, theirs = found.iloc[1], found.iloc[-1]
    back = {True: "is back", False: "is lost"}
    return (
        f"One merge and unmerge in bfloat16 changes {ours['weights changed']:.0%} of the weights "
        f"here, "
        f"{theirs['weights changed']:.0%} with {theirs['library']}; the row behind the zero "
        f"{back[bool(ours.iloc[3])]} here, and {back[bool(theirs.iloc[3])]} there."
    )


def wrong_rows(rows: pd.DataFrame) -> int:
    """Rows of a mixed batch in which Hugging Face's logits are not the task's own."""
    return int((rows["Hugging Face peft"] > ROUNDING).sum())


def mixed(rows: pd.DataFrame, version: str, ignored: bool) -> str:
    """Whether each row of a mixed batch gets its own vectors.

    rows: columns task, frugal and Hugging Face peft, the farthest logit; ignored: whether names
    that do not exist changed nothing
    """
    names = " Names that do not exist raise nothing there." if ignored else ""
    return (
        f"{wrong_rows(rows)} of {len(rows)} rows are wrong with Hugging Face peft {version}, by "
        f"up to "
        f"{rows['Hugging Face peft'].max():.2g} in a logit; here none is (at most "
        f"{rows['frugal'].max():.1g}). Its (IA)³ gives every row the active adapter; its LoRA "
        f"mixes, "
        f"at inference.{names}"
    )


def mixing_time(one: float, many: float, rows: int, tasks: int, extra: int) -> str:
    """What one batch saves over one a task. one, many: seconds."""
    return (
        f"One batch is {many / one:.2f} times as fast as one a task: {rows} rows of {tasks} "
        f"tasks take "
        f"{duration(one)} instead of {duration(many)}, measured here. The vectors add {extra:,} "
        "multiplications a row."
    )


def zoo(zoo: pd.DataFrame, printed: "pd.Series[Any]") -> str:
    """How many of Table 4's counts follow from a definition or from the released code."""
    off = {column: (zoo[column] / printed - 1).abs() for column in ("params", "released")}
    close = {column: int((gap < 0.03).sum()) for column, gap in off.items()}
    never = [n for n in zoo.index if min(gap[n] for gap in off.values()) >= 0.03]
    return (
        f"{close['params']} of {len(zoo)} printed counts are within 3 % by definition, "
        f"{close['released']} as released; neither way: {', '.join(map(name, never)) or 'none'}."
    )


def overhead(ratio: pd.DataFrame) -> pd.DataFrame:
    """What every method costs at inference, as `fewshot.overhead.ratios` has it: a row a method."""
    works = {0: "at once", 1: "behind"}
    table: dict[tuple[str, str], dict[str, str]] = {
        (name(str(row.name_)), row.way): {}
        for row in ratio.rename(columns={"name": "name_"}).itertuples()
    }
    for row in ratio.rename(columns={"name": "name_"}).itertuples():
        work = works[int(row.context > 0)]
        table[name(str(row.name_)), row.way] |= {
            f"FLOPs, {work}": f"{row.flops:.3f}",
            f"time, {work}": f"{row.seconds:.2f} ({row.low:.2f}–{row.high:.2f})",
        }
    found = pd.DataFrame(table).T.rename_axis(["method", "way"])
    return found.reset_index()


def inference_title(ratio: pd.DataFrame, model: str) -> str:
    """What a folded method costs, and what stays beside the weights."""
    folds = ratio[ratio["way"] == "folded"]
    stays = ratio[~ratio["name"].isin(folds["name"])]
    return (
        f"Folded, a method takes {folds['seconds'].median():.2f} times the plain model's time; "
        f"beside "
        f"the weights, up to {stays['seconds'].max():.2f} · {model}"
    )


def published_title(published: pd.DataFrame) -> str:
    """Which methods beat full fine-tuning in print. Index: methods; column accuracy."""
    ranked = published["accuracy"].sort_values(ascending=False)
    ahead = [name(str(n)) for n in ranked.index if ranked[n] > ranked["full"]]
    lead = 100 * (ranked.iloc[0] - ranked["full"])
    return f"Published: only {' and '.join(ahead)} beats full fine-tuning, by {lead:.1f} points"


def live_title(leads: Mapping[str, Difference], best: Mapping[str, str]) -> str:
    """(IA)³ beside the best other method: live, then recorded."""
    live, recorded = (lead.between("(IA)³", name(best[panel])) for panel, lead in leads.items())
    return f"Live: {live}\nRecorded: {recorded}"


def over_the_best(
    leads: Mapping[str, Difference],
    best: Mapping[str, str],
    means: Mapping[str, "pd.Series[float]"],
    where: Sequence[str],
) -> str:
    """(IA)³ less the best other method, and which methods are above it: a line a panel."""
    lines = []
    for (panel, lead), place in zip(leads.items(), where, strict=True):
        mean = means[panel]
        above = ", ".join(name(str(n)) for n in mean.index if mean[n] > mean["ia3"]) or "none"
        said = lead.of("(IA)³", name(best[panel]), "the best other method", place)
        lines.append(f"{said}. Above (IA)³: {above}.")
    return "\n".join(lines)


def closing(
    *,
    sums: Mapping[str, Mapping[str, Any]],
    printed: "pd.Series[Any]",
    lead: float,
    same: float,
    ratio: pd.DataFrame,
    restored: bool,
    rows: pd.DataFrame,
    zoo: pd.DataFrame,
    counts: "pd.Series[Any]",
    live: Difference | None,
    recorded: Difference,
    on: Sequence[str],
) -> list[Claim]:
    """The table that ends the chapter. on: what was compared, live and recorded."""
    small, large = sums["t0-3b"], sums["t0-11b"]
    own = ratio[ratio["name"] == "ia3"].groupby("way")["seconds"].median()
    stays = ratio[~ratio["name"].isin(ratio.loc[ratio["way"] == "folded", "name"])]
    close = int(((zoo["released"] / counts - 1).abs() < 0.03).sum())
    wrong, most = wrong_rows(rows), float(stays["flops"].max())
    print_lead = f"{100 * lead:+.1f} points"
    beats = "(IA)³ beats full fine-tuning (Figure 2)"
    found = [
        Claim(
            "(IA)³'s numbers on T0-3B (Table 4)",
            str(printed["ia3"]),
            f"{small['counted']:,}",
            "counted on the meta device",
            verdict="confirmed" if small["counted"] == small["formula"] else "contradicted",
        ),
        Claim(
            "T0-11B's are L·3·d (slides)",
            f"{large['slides: L·3·d']:,}",
            f"{large['counted']:,}",
            "counted on the meta device",
            verdict="confirmed" if large["counted"] == large["slides: L·3·d"] else "contradicted",
        ),
        Claim(
            "Folded into the weights, it costs nothing (§3.3)",
            "stated",
            f"×{own['folded']:.2f} in time (beside: ×{own['beside']:.2f})",
            f"live: {same:.0%} of answers equal",
            verdict="confirmed" if own["folded"] < 1.1 and same == 1 else "open",
        ),
        Claim(
            "… and can be taken out again",
            "–",
            "bit-identical" if restored else "not bit-identical",
            "live: merge and unmerge",
            verdict="confirmed" if restored else "contradicted",
        ),
        Claim(
            "What cannot be folded costs at every query (deck)",
            "stated",
            f"up to ×{most:.2f} in FLOPs, ×{stays['seconds'].max():.2f} in time",
            f"live: {stays['name'].nunique()} methods",
            verdict="confirmed" if most > 1 else "contradicted",
        ),
        Claim(
            "A batch may mix tasks (§3.3)",
            "stated",
            f"gap {rows['frugal'].max():.1g}; HF peft: {wrong} of {len(rows)} rows wrong",
            "live: a batch of three tasks",
            verdict="confirmed" if rows["frugal"].max() < ROUNDING else "contradicted",
        ),
        Claim(
            "Counts of the methods (Table 4)",
            f"{len(zoo)} printed",
            f"{close} within 3 % as released",
            "counted, T0-3B",
            verdict="confirmed" if close == len(zoo) else "qualified",
        ),
    ]
    if live is not None:
        found.append(compared(beats, print_lead, on[0], live))
    return [*found, compared(beats, print_lead, on[1], recorded)]
