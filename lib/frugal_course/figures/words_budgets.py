"""Chapter 5 in words, about what the same dollars made here: titles, takeaways, small tables."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from frugal import stats
from frugal.costs.prices import usd
from frugal_course.figures.budgets import student
from frugal_course.names import name

WAITING = "Not recorded yet: make crossing does it, and goes on where it was stopped."
JOINED = "A student that T-Few teaches from 100 labels", "one of 1,000 labels"
WAYS = {"annotate": "labels alone", "distill": "distilled", "llm": "LLM's labels"}


def leads_title(gaps: pd.DataFrame, scope: str) -> str:
    """Distilled less labels alone at each N, with intervals, or once why there is none.

    gaps: `compare.gaps` of one student
    """
    draws = min(gap.draws for gap in gaps["gap"])
    doubt = f" ({draws} draws; an interval needs {stats.FEWEST})" if draws < stats.FEWEST else ""
    each = ", ".join(
        f"{str(row.gap).partition(' (')[0]} at N = {row.labels:,}" for row in gaps.itertuples()
    )
    return f"{scope}, distilled less labels alone: {each}{doubt}"


def stated(
    gaps: pd.DataFrame, *where: str, ours: str = "Distilled", theirs: str = "labels alone"
) -> str:
    """A verdict for each N and student, as chapter 1 defines it. gaps: `compare.gaps`"""
    several = gaps["model"].nunique() > 1
    places = ([] if several else [student(gaps["model"].iloc[0])]) + list(where)
    return f"{', '.join((f'{ours} less {theirs}', *places))}: " + "; ".join(
        f"N = {row.labels:,}{', ' + student(row.model) if several else ''} {row.gap}"
        for row in gaps.itertuples()
    )


def leads_table(gaps: pd.DataFrame) -> pd.DataFrame:
    """Differences by N, a column a student. gaps: `compare.gaps`"""
    text = gaps.assign(gap=gaps["gap"].map(str), model=gaps["model"].map(student))
    table = text.pivot(index="labels", columns="model", values="gap")
    table.index = [f"N = {n:,}" for n in table.index]
    return table.rename_axis(columns="distilled less labels alone")


def means_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by way (and student, of several) and N: mean (least to most).

    runs: `compare.summary`
    """
    several = runs.loc[runs["strategy"] != "teacher", "model"].nunique() > 1
    rows = [
        {
            "way": WAYS.get(row["strategy"], "teacher")
            + (f", {student(row['model'])}" if several and row["strategy"] in WAYS else ""),
            "N": f"N = {row['labels']:,}",
            "text": f"{row['mean']:.3f} ({row['min']:.3f}–{row['max']:.3f})",
        }
        for row in runs.sort_values("labels", kind="stable").to_dict("records")
    ]
    table = pd.DataFrame(rows).pivot(index="way", columns="N", values="text")
    return table[list(dict.fromkeys(row["N"] for row in rows))].rename_axis(
        index=None, columns=None
    )


def crossing_sentence(gaps: pd.DataFrame, *where: str) -> str:
    """Distilled less labels alone where the least and the most labels were bought."""
    ends = gaps[gaps["labels"].isin([gaps["labels"].min(), gaps["labels"].max()])]
    return f"{stated(ends, *where)}."


def worth_sentence(value: Mapping[int, float | None], most: int) -> str:
    """By N, how many labels alone are as good as distilling."""
    text = "; ".join(
        f"N = {n:,}: {f'more than {most:,}' if count is None else f'{count:,.0f}'}"
        for n, count in value.items()
    )
    return f"Labels that a student needs alone to be as good as the distilled one: {text}."


def worth_table(means: pd.DataFrame, value: Mapping[int, float | None], most: int) -> pd.DataFrame:
    """What the teacher has to give, what the student takes over, and what that is worth in labels.

    means: accuracies, index labels, columns annotate, distill, teacher
    """
    points = 100 * (means[["teacher", "distill"]].sub(means["annotate"], axis=0))
    return pd.DataFrame(
        {
            "teacher less labels alone": points["teacher"].map("{:+.1f}".format),
            "distilled less labels alone": points["distill"].map("{:+.1f}".format),
            "as good alone with": [
                f"more than {most:,}" if value[n] is None else f"{value[n]:,.0f} labels"
                for n in means.index
            ],
        }
    ).set_axis([f"N = {n:,}" for n in means.index], axis="index")


def worth_price(
    dollars: Mapping[int, float], value: Mapping[int, float | None], usd_per_label: float
) -> str:
    """At which price the labels that distilling replaces would be as cheap as its computing.

    dollars: of computing, by N
    """
    prices = [dollars[n] / (count - n) for n, count in value.items() if count and count > n]
    if not prices:
        return "Distillation replaces no labels here."
    return (
        f"Labels would be as cheap as distillation's computing at {usd(min(prices))} to "
        f"{usd(max(prices))} "
        f"each; they cost {usd(usd_per_label)}."
    )


def teacher_sentence(wide: pd.DataFrame) -> str:
    """How closely a distilled student follows its teacher.

    wide: accuracies in points; index labels (N), seed; columns teacher, distill, annotate
    """
    from_mean = wide - wide.groupby("labels").transform("mean")
    together = from_mean["teacher"].corr(from_mean["distill"])
    below = wide["teacher"] - wide["distill"]
    return (
        f"A distilled student is as good as its teacher makes it: {below.min():.1f} to "
        f"{below.max():.1f} "
        f"points below it, and seed by seed with it (correlation {together:.2f} of {len(wide)} "
        "pairs, each "
        "less the mean of its N)."
    )


def least_teacher(wide: pd.DataFrame) -> str:
    """Where the teacher led least, what its student gained. wide: as `teacher_sentence` takes it"""
    lead = wide.sub(wide["annotate"], axis=0)
    n, seed = lead["teacher"].idxmin()
    return (
        f"Where the teacher led the student on labels alone least ({lead['teacher'].min():+.1f} "
        "points, N = "
        f"{n:,}, seed {seed}), the distilled student led by {lead['distill'][n, seed]:+.1f}."
    )


def annotator_sentence(paid: pd.DataFrame, llm: str, usd_per_label: float) -> str:
    """What an LLM's label costs beside a person's. paid: its runs"""
    each = paid["usd_labels"].mean() / paid["trained_on"].mean()
    return (
        f"{name(llm)} labels {paid['trained_on'].max():,} texts for "
        f"{usd(paid['usd_labels'].max())}, "
        f"{usd(each)} each, where a person takes {usd(usd_per_label)}: "
        f"{usd_per_label / each:,.0f} times "
        "as much."
    )


def seconds_sentence(h0: float, share: float, rate: float, times: float, dollars: float) -> str:
    """Where the seconds of a distillation go here.

    h0: seconds of the teacher's training, share of the whole; rate: examples an hour; times: of
    them that a label costs; dollars: of all computing
    """
    return (
        f"The teacher's training takes {h0:.0f} s, {share:.0%} of distillation; then {rate:,.0f} "
        "examples an "
        f"hour come, and a label costs as much as {times:,.0f} of them. All computing costs "
        f"{usd(dollars)}."
    )


def taught_sentence(
    few: "pd.Series[float]", alone: "pd.Series[float]", gap: stats.Difference
) -> str:
    """A few labels and a language model that teaches, beside many labels. few, alone: by N"""
    return (
        f"With {few.index[0]:,} labels and a teacher tuned by T-Few, two layers get "
        f"{few.iloc[0]:.2f} right; "
        f"with {alone.index[-1]:,} labels alone {alone.iloc[-1]:.2f}: {gap}."
    )


def sizes_title(apart: stats.Difference, small: str, large: str) -> str:
    """Whether the smaller student gains more (Figure 4). small, large: as in "one layer's" """
    if apart.clear:
        more, less = (small, large) if apart.difference > 0 else (large, small)
        size = str(apart).lstrip("+-").partition(" [")[0]
        return f"Distilling brings {size} more in {more} than in {less} accuracy {apart.interval}"
    return apart.between(f"{small.capitalize()} gain by distilling", large)


def sizes_sentence(
    apart: Mapping[int, stats.Difference], mean: stats.Difference, small: str, large: str
) -> str:
    """Each N's difference of gains, and their mean."""
    each = "; ".join(f"N = {n:,} {gap}" for n, gap in apart.items())
    return f"{small.capitalize()} gain less {large}: {each}; mean {mean}."


def setting_sentence(setting: Any, task: str, teacher: str) -> str:
    """What a study compares (`budgets.study.Setting`)."""
    counts = ", ".join(f"{n:,}" for n in setting.labels)
    return (
        f"{name(task)}: N = {counts} labels at {usd(setting.usd_per_label)}, "
        f"{len(setting.seeds)} draws. "
        f"{name(teacher)} teaches students of {', '.join(map(student, setting.students))} on "
        f"{setting.unlabelled:,} texts; {name(setting.llm)} labels "
        f"{min(setting.llm_texts, setting.unlabelled):,} of them."
    )


def record_sentence(runs: pd.DataFrame) -> str:
    """Of which runs a record is."""
    first = runs.iloc[0]
    texts = int(runs.loc[runs["strategy"] == "distill", "trained_on"].max())
    return (
        f"{len(runs)} trained models on {name(first['task']) if 'task' in runs else 'one task'}, "
        f"{runs['seed'].nunique()} draws, {texts:,} unlabelled texts, {first['examples']:,} test "
        "texts; "
        f"{first['machine']}, {runs['date'].min()}."
    )


def llm_title(people: pd.DataFrame) -> str:
    """An LLM's labels beside people's where these are fewest and most. people: `compare.gaps`"""
    ends = people.iloc[[0, -1]]
    text = ", ".join(f"{row.gap} at N = {row.labels:,}" for row in ends.itertuples())
    return f"An LLM's labels less people's: {text}"


def shrinking_title(shrinks: stats.Difference, few: int, many: int) -> str:
    """Whether distilling brings less where labels are many."""
    return shrinks.between(f"Distillation's gain at N = {few:,}", f"that at N = {many:,}")


def shrinking_sentence(
    shrinks: stats.Difference, few: int, many: int, printed: pd.DataFrame
) -> str:
    """The same with its interval, beside Table 3. printed: leads, index N, a column a task"""
    fewer = int((printed.iloc[-1] < printed.iloc[0]).sum())
    return (
        f"Gain at N = {few:,} less gain at N = {many:,}, recorded: {shrinks}. In Table 3 the lead "
        f"shrinks with N on {fewer} of {printed.shape[1]} tasks."
    )


def crossings(found: Mapping[str, Any]) -> str:
    """Where labels and distillation cross, by task; "" where nothing is recorded.

    found: `compare.crossing`
    """
    return "\n".join(f"{name(task)}: {held}." for task, held in found.items())


def trained_sentence(runs: pd.DataFrame) -> str:
    """How near the students come to the teacher, on how many texts, and what of each is trained."""
    mean = runs.groupby(["strategy", "model"])["accuracy"].mean()
    teacher = mean["teacher"].index[0]
    below = 100 * (mean["teacher"].iloc[0] - mean["distill"])
    texts = int(runs.loc[runs["strategy"] == "distill", "trained_on"].max())
    students = runs[runs["strategy"] == "distill"].groupby("model", sort=False)["trained"].first()
    changed = ", ".join(f"{n:,} ({student(who)})" for who, n in students.items())
    return (
        f"They stay {below.min():.0f} to {below.max():.0f} points below their teacher, "
        f"{name(teacher)} "
        f"({mean['teacher'].iloc[0]:.2f}). {runs['seed'].nunique()} draws, {texts:,} unlabelled "
        "texts; "
        f"trained parameters: {changed}."
    )


def teachers_sentence(by: "Mapping[str, pd.Series[float]]") -> str:
    """The accuracies of teachers that learnt the same labels. by: teacher, then N"""
    common = set.intersection(*(set(own.index) for own in by.values()))
    return (
        "The teachers, from the same labels: "
        + "; ".join(
            f"N = {n:,}: " + ", ".join(f"{who} {own[n]:.2f}" for who, own in by.items())
            for n in sorted(common)
        )
        + "."
    )


def by_students_title(gaps: pd.DataFrame, scope: str) -> str:
    """From least to most, what distilling adds, over students. gaps: `compare.gaps`"""
    points = [100 * gap.difference for gap in gaps["gap"]]
    draws = min(gap.draws for gap in gaps["gap"])
    doubt = f" ({draws} draws; an interval needs {stats.FEWEST})" if draws < stats.FEWEST else ""
    return f"{scope}: distilling adds {min(points):+.0f} to {max(points):+.0f} points{doubt}"


def llm_answer(people: pd.DataFrame) -> str:
    """Beside how many human labels an LLM's are better, worse, or not told apart.

    people: `compare.gaps` of an LLM's labels less people's
    """
    groups: dict[str, list[str]] = {"Better than": [], "not told apart from": [], "worse than": []}
    for row in people.itertuples():
        sign = (row.gap.difference > 0) - (row.gap.difference < 0) if row.gap.clear else 0
        word = {1: "Better than", 0: "not told apart from", -1: "worse than"}[sign]
        groups[word].append(f"{row.labels:,}")
    text = ", ".join(f"{word} {' and '.join(counts)}" for word, counts in groups.items() if counts)
    return f"{text[:1].upper()}{text[1:]} human labels"
