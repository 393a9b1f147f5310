"""Chapter 3 in words: titles and takeaways, the finding first; at most 240 letters each."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from frugal.stats import Difference, average, half_width, wilson
from frugal_course.figures.closing import Claim, compared, verdict
from frugal_course.figures.style import flops
from frugal_course.figures.tables import readable
from frugal_course.names import name

Words = tuple[str, str]  # a title, and the sentence under the figure


def packed(tokens: int, apart: int, choices: int) -> str:
    """What packing spares on one example: tokens computed, and those of a row for each choice."""
    return (
        f"{tokens} tokens go through the model for {choices} choices, where a row for each would "
        f"take "
        f"{apart}."
    )


def by_hand(largest: float, total: float, right: str, answered: str) -> str:
    """Whether the losses by hand are the library's, and whom the model answers."""
    verb = "wins" if right.strip() == answered.strip() else "loses to"
    rival = "" if verb == "wins" else f" {answered.strip()!r}"
    return (
        f"By hand and in the library the three losses agree to {largest:.0e} nats; their sum is "
        f"{total:.2f}. The right choice, {right.strip()!r}, {verb}{rival} by β."
    )


def rungs(found: pd.DataFrame) -> pd.DataFrame:
    """Three ways to the same loss, as `studies.rungs` gives them, as people read them."""
    return pd.DataFrame(
        {
            "loss": found["loss"].map("{:.5f}".format),
            "FLOPs, counted": found["flops"].map(flops),
            "by closed form": found["closed"].map(flops),
            "of shared K and V": found["ratio"].map("{:.2f} times".format),
        }
    ).set_index(found["rung"])


def read_once(found: pd.DataFrame, model: str, many: int, ways: Sequence[float]) -> str:
    """What reading once spares: here, and for a task of so many choices on T0-11B.

    ways: FLOPs: read for every choice, read once and repeated, shared
    """
    exact = "equal" if (found["flops"] == found["closed"]).all() else "do not equal"
    apart = found["loss"].max() - found["loss"].min()
    plain, repeated, shared = ways
    return (
        f"With {many} choices of 4 tokens, reading the prompt for each takes T0-11B "
        f"{plain / shared:.0f} "
        f"times the FLOPs of shared K and V, repeated states {repeated / shared:.1f} times. "
        f"{model}: "
        f"losses within {apart:.0e}, counted FLOPs {exact} the closed form."
    )


def order(swing: pd.DataFrame, drawn: Any, texts: int, task: str) -> Words:
    """How far the order of the same examples moves ICL, beside other draws of them.

    swing: columns draw, order, accuracy; drawn: accuracies of the draws, grouped by task and shots
    """
    by_draw = swing.groupby("draw")["accuracy"]
    spread = 100 * (by_draw.max() - by_draw.min()).max()
    widest = 100 * (drawn.max() - drawn.min())
    where, shots = widest.idxmax()
    one = 196 * math.sqrt(0.25 / texts)
    return (
        f"The order alone moves ICL by up to {spread:.0f} points",
        f"By up to {spread:.0f} points on {task} ({texts} texts; one accuracy alone is known to "
        f"±{one:.0f}). Other draws of the examples move it by up to {widest.max():.0f} "
        f"points "
        f"({shots} shots, {name(where)}).",
    )


def swapped(gaps: Mapping[int, Difference], means: Any, task: str, model: str) -> Words:
    """What wrong labels in the prompt cost. gaps: by shots; means: accuracy by shots and labels."""
    most = max(gaps)
    found = gaps[most].between("right labels", "wrong ones")
    lines = [
        gap.of("Right labels", "wrong ones", f"{k} shots", task, model)
        + f" ({means[k, 'right']:.2f} and {means[k, 'swapped']:.2f})."
        for k, gap in gaps.items()
    ]
    return f"{most} shots: {found} · {model}", "\n".join(lines)


def over_zero(gaps: Mapping[tuple[str, int], Difference], model: str) -> pd.DataFrame:
    """k-shot ICL less zero-shot, a row a task, a column a k."""
    table: dict[str, dict[str, str]] = {}
    for (task, shots), gap in gaps.items():
        table.setdefault(name(task), {})[f"{shots}-shot ICL less zero-shot"] = str(gap)
    return pd.DataFrame(table).T.rename_axis(name(model), axis=1)


def over_zero_sentence(gaps: Mapping[tuple[str, int], Difference]) -> str:
    """Whether examples in the prompt are better than none."""
    clear = sum(gap.low is not None and gap.low > 0 for gap in gaps.values())
    middle = [100 * gap.difference for gap in gaps.values()]
    return (
        f"Examples in the prompt beat none in {clear or 'none'} of {len(gaps)} cases by their "
        f"intervals; the differences are {min(middle):+.0f} to {max(middle):+.0f} points."
    )


def learnt(trained: int, whole: int, labels: int, recipe: Any, losses: Mapping[str, Any]) -> Words:
    """How few numbers are trained, and where the loss ends. losses: of each step, by task."""
    ends = " and ".join(f"{loss[-1]:.2f} nats ({name(task)})" for task, loss in losses.items())
    return (
        f"{trained:,} numbers, {trained / whole:.3%} of the model, learn {labels} labels",
        f"In {recipe.steps} steps of {recipe.batch_size} the sum of the three losses falls to "
        f"{ends}.",
    )


def ablated(
    added: Mapping[str, Difference], published: "pd.Series[float]", task: str, model: str
) -> Words:
    """What each loss adds to L_LM. added: by sum of losses; all intervals hold together."""
    last = list(added)[-1]
    told = "; ".join(f"{sums.removeprefix('L_LM ')}: {gap}" for sums, gap in added.items())
    return (
        f"{model}: {added[last].between('all three losses', 'L_LM alone')}",
        f"Over L_LM alone, {task}, {model}: {told} (the three intervals hold together). Published: "
        f"{published.iloc[-1] - published.iloc[0]:+.1f} points for all, with T0-3B.",
    )


def wrong_label(printed: str, own: Any, nearest: str, its: float) -> str:
    """Section 3.2's number beside the wrong sum of losses."""
    return (
        f"Section 3.2's {printed} for L_LM + L_LN is the number of {nearest} ({its:.2f}): that "
        f"row of "
        f"table 3 averages {own}. The paper's text has the wrong label, and the slide copied it."
    )


def against(gains: Mapping[str, Difference], ours: str, theirs: str, model: str) -> str:
    """A title: the mean difference over tasks."""
    return f"{name(model)}: " + average(list(gains.values())).between(ours, theirs)


def gained(gains: Mapping[str, Difference], ours: str, theirs: str, model: str) -> str:
    """A line a task: what less what, how sure."""
    return "\n".join(f"{gain.of(ours, theirs, task, model)}." for task, gain in gains.items())


def needed(
    pilot: Difference, power: Callable[..., int | None], draws: Iterable[int], ours: str, task: str
) -> str:
    """How many texts it takes to see 5 points with so many draws; power: `stats.power`."""
    counts = {d: power(0.05, pilot.components, draws=d) for d in draws}
    seen = [f"{count:,} texts with {d} draws" for d, count in counts.items() if count is not None]
    never = [str(d) for d, count in counts.items() if count is None]
    assert pilot.components is not None
    here = 100 * half_width(pilot.components, pilot.draws, pilot.texts)
    blind = f"with {', '.join(never)} draws no number of texts is enough" if never else ""
    return (
        f"To see 5 points between {ours} on {task}: "
        f"{'; '.join([*seen, blind] if blind else seen)}. "
        f"The {pilot.draws} draws and {pilot.texts} texts here see ±{here:.0f} points."
    )


def nano_card(card: pd.DataFrame, compare: Callable[..., Difference]) -> pd.DataFrame:
    """nano-t0's shipped numbers: zero-shot with its interval, and what T-Few adds; a row a task.

    compare: `stats.compare`
    """
    rows = []
    for row in card[card["method"] == "zero-shot"].to_dict("records"):
        low, high = wilson(round(row["accuracy"] * row["examples"]), int(row["examples"]))
        told = {
            "task": name(row["task"]),
            "guessing": f"{row['chance']:.2f}",
            "zero-shot": f"{row['accuracy']:.2f} [{low:.2f}, {high:.2f}]",
        }
        for way, said in (("ia3", "T-Few adds"), ("ia3 from vectors", "from pretrained vectors")):
            mine = card[(card["method"] == way) & (card["task"] == row["task"])]["accuracy"]
            # a draw's mean is kept, not its hits: the texts are taken as given
            gap = compare(mine.to_numpy()[:, None], row["accuracy"]) if len(mine) else None
            told[said] = "not measured" if gap is None else str(gap)
        rows.append(told)
    return pd.DataFrame(rows).set_index("task")


def training_cost(tuned: pd.DataFrame, worth: "pd.Series[float]", shots: int) -> str:
    """What a training took, in queries of k-shot ICL to the same model. worth: by task."""
    queries = " and ".join(f"{count:.0f} ({name(str(task))})" for task, count in worth.items())
    return (
        f"A training costs as many FLOPs as {queries} queries of {shots}-shot ICL to the same "
        f"model, "
        f"nothing cached: {flops(tuned['train_flops'].mean())} FLOPs, "
        f"{tuned['train_seconds'].mean():.0f} s here."
    )


def dollars(items: Iterable[Any]) -> str:
    """A line a printed amount: what it is, and what comes out."""
    return "\n".join(
        f"{item.where}: printed {item.printed}, recomputed {item.recomputed} ({item.note})."
        for item in items
    )


def study(found: Mapping[str, Any]) -> str:
    """What the paper's main experiment takes, as `estimate.study` has it."""
    doubts = "; ".join(str(warning).split(",")[0] for warning in found["warnings"])
    return (
        f"{found['runs']} runs, {flops(found['flops'])} FLOPs: {found['gpu_hours']:.0f} hours of "
        f"one "
        f"{name(found['gpu'])} at {found['mfu']:.0%} of its peak (what the paper's own half hour "
        f"makes "
        f"of it), ${found['usd']:.0f}. Note: {doubts}."
    )


def study_parts(found: Mapping[str, Any]) -> pd.DataFrame:
    """The same by model."""
    sums = ["runs", "train_flops", "test_flops", "gpu_hours", "usd"]
    parts = pd.DataFrame(found["parts"]).groupby("backbone", sort=False)[sums].sum()
    return readable(parts.assign(gpu_hours=parts["gpu_hours"].map("{:.1f}".format)))


def datasets_title(nine: pd.DataFrame) -> str:
    """On how many of Table 9's datasets T-Few is above GPT-3. Rows: T-Few, then GPT-3."""
    gap = nine.iloc[0] - nine.iloc[1]
    return (
        f"T-Few is above GPT-3 175B on {(gap > 0).sum()} of {len(gap)} datasets; on "
        f"{gap.idxmin()} {gap.min():+.1f} points"
    )


def averages(rebuilt: pd.DataFrame, raft: "pd.Series[str]", board: "pd.Series[float]") -> str:
    """Which of Table 1's and RAFT's numbers reproduce. raft: verdicts; board: RAFT's leaders."""
    bad = rebuilt[rebuilt["verdict"] == "failed"]
    where = ", ".join(dict.fromkeys(bad["method"]))
    return (
        f"Of RAFT's {len(raft)} averages {(raft != 'failed').sum()} reproduce, and T-Few's "
        f"{board.iloc[0]}% is {board.iloc[0] - board.iloc[1]:.1f} points above people; of Table "
        f"1's "
        f"{len(rebuilt)} numbers {len(bad)} do not ({where})."
    )


def own_task(
    before: float, after: Any, better: Difference, texts: int, labels: int, chance: float
) -> str:
    """What T-Few did on a reader's own task. before: accuracy; after: a row of `tuned_runs`."""
    return (
        f"{better.of('T-Few', 'zero-shot', 'own task', 'for these labels')}: {before:.2f} to "
        f"{after['accuracy']:.2f} on {texts} questions (chance {chance:.2f}) with {labels} "
        f"labels, in "
        f"{after['train_seconds']:.0f} s; a query costs {flops(after['flops_per_query'])} FLOPs."
    )


def closing(
    *,
    printed: pd.DataFrame,
    recorded: Difference | None,
    tasks: tuple[int, int],
    gains: Mapping[str, Difference],
    over_zero: Mapping[str, Difference],
    own_row: float,
    cost: float,
    paid: "pd.Series[float]",
    dollars: Any,
    published: "pd.Series[float]",
    losses: Difference,
    swap: Difference,
    spread: float,
    rungs: pd.DataFrame,
    choices: int,
    models: tuple[str, str],
) -> list[Claim]:
    """The table that ends the chapter.

    printed: Table 1; recorded: T-Few less 16-shot ICL over `tasks` (so many of so many planned)
    own_row: the mean of T0's own row of table 9; models: the one that is prompted, and nano-t0
    """
    ours, gpt3, t0 = (printed.loc[row] for row in ("T-Few", "GPT-3 175B", "T0"))
    more = "Few-shot tuning is more accurate than ICL (Table 1)"
    accuracies = f"{ours['accuracy']}% against {gpt3['accuracy']}%"
    live, tuned = (average(list(found.values())) for found in (gains, over_zero))
    ratio = gpt3["inference FLOPs"] / ours["inference FLOPs"]
    pays = ours["training FLOPs"] / gpt3["inference FLOPs"]
    big, small = map(name, models)
    of = f"{tasks[0]} of {tasks[1]} tasks" if tasks[0] < tasks[1] else f"{tasks[0]} tasks"
    rows = []
    if recorded is not None:
        rows.append(compared(more, accuracies, f"recorded: {of}, 5 draws", recorded))
    rows += [
        compared(more, accuracies, f"live, {big}, tasks: {len(gains)}", live),
        compared(
            "T-Few adds to zero-shot of a T0 (Table 1)",
            f"{t0['accuracy']}% → {ours['accuracy']}% (own row: {own_row:.1f}%)",
            f"live, {small}, tasks: {len(over_zero)}",
            tuned,
        ),
        Claim(
            "An ICL query costs many times a T-Few query (Table 1)",
            f"{ratio:,.0f}×",
            f"{cost:.0f}×",
            "counted: the same model",
            verdict="confirmed" if cost > 2 else "contradicted",
        ),
        Claim(
            "Training costs few ICL queries (§4.2)",
            f"about {pays:.0f} (GPT-3 175B)",
            " and ".join(f"{count:.0f}" for count in paid),
            "counted: the same model",
            verdict="confirmed" if paid.max() < 100 else "contradicted",
        ),
        Claim(
            "A training costs about two dollars (running text)",
            str(dollars.printed),
            f"{dollars.recomputed}",
            "arithmetic: half an A100 hour",
            verdict="confirmed" if dollars.verdict != "failed" else "qualified",
        ),
        compared(
            "Each loss adds (§3.2, Table 3)",
            f"{published.iloc[-1] - published.iloc[0]:+.1f} points, all against L_LM (T0-3B)",
            f"live: {small}",
            losses,
        ),
        Claim(
            "ICL depends on the order of its examples (§2.1)",
            "stated",
            f"up to {spread:.0f} points",
            f"live: two draws, {big}",
            verdict="confirmed" if spread > 5 else "open",
        ),
        Claim(
            "ICL does well behind wrong labels too (Min et al. 2022)",
            "stated",
            f"right less wrong: {str(swap).partition(' [')[0]}",
            f"live: {swap.draws} draws, {big}",
            swap.interval,
            verdict(swap, above=False),
        ),
        Claim(
            "Choices share what was read (released code)",
            "states repeated",
            f"{rungs['ratio'].iloc[0]:.1f}× read anew, {rungs['ratio'].iloc[1]:.1f}× repeated",
            f"counted: {choices} choices, {small}",
            verdict="confirmed" if rungs["ratio"].iloc[1] > 1 else "open",
        ),
    ]
    return rows
