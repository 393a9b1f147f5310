"""Pictures of ideas: what is computed, and where, before any number of it is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from frugal_course.figures.style import BLUE, GREEN, GREY, ORANGE, WIDE

PALE = {BLUE: "#d6e9f5", ORANGE: "#f9e0d1", GREEN: "#d3eee5", GREY: "#eeeeee", "white": "white"}
WIDTH = 10.5  # units of the canvas, on WIDE inches
LETTERS = 9.2  # points
PINK = "#CC79A7"  # a fifth colour of Okabe & Ito's palette
PALE[PINK] = "#f6e4ee"


def _canvas(height: float, title: str, sentence: str = "") -> tuple[Figure, Axes]:
    """A figure without axes, WIDTH units wide; its sentence is its label, which `picture` shows."""
    figure = Figure(figsize=(WIDE, height * WIDE / WIDTH), dpi=100)
    figure.set_label(sentence)
    at = figure.add_axes((0, 0, 1, 1))
    at.set(xlim=(0, WIDTH), ylim=(0, height), aspect="equal")
    at.axis("off")
    at.text(0.1, height - 0.12, title, fontsize=13, va="top")
    return figure, at


def _box(
    at: Axes,
    x: float,
    y: float,
    w: float,
    h: float,
    text: str = "",
    colour: str = GREY,
    **style: Any,
) -> None:
    """A rounded box whose lower left corner is at (x, y)."""
    size = style.pop("fontsize", LETTERS)
    at.add_patch(
        FancyBboxPatch(
            (x, y),
            w,
            h,
            boxstyle="round,pad=0,rounding_size=0.07",
            facecolor=PALE[colour],
            edgecolor=colour,
            linewidth=1.4,
            **style,
        )
    )
    at.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=size)


def _note(at: Axes, x: float, y: float, text: str, colour: str = "black", **style: Any) -> None:
    """A line of text that begins at (x, y)."""
    at.text(x, y, text, color=colour, **{"fontsize": LETTERS, "va": "center", **style})


def _arrow(
    at: Axes, a: tuple[float, float], b: tuple[float, float], colour: str = GREY, **style: Any
) -> None:
    usual = {
        "arrowstyle": "-|>",
        "mutation_scale": 12,
        "linewidth": 1.3,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    at.add_patch(FancyArrowPatch(a, b, color=colour, **{**usual, **style}))


def _sign(at: Axes, x: float, y: float, text: str, colour: str = GREY, r: float = 0.15) -> None:
    """An operation in a circle."""
    at.add_patch(Circle((x, y), r, facecolor="white", edgecolor=colour, linewidth=1.4, zorder=3))
    at.text(x, y - 0.01, text, ha="center", va="center", fontsize=11, color=colour, zorder=4)


def methods_in_a_layer(
    title: str = "(IA)³ rescales, LoRA adds beside a weight, an adapter behind it",
) -> Figure:
    """One layer of a transformer, and where (IA)³, LoRA, an adapter, a prefix and BitFit sit."""
    figure, at = _canvas(
        4.6,
        title,
        "One layer; an encoder–decoder's decoder has a second attention, with vectors of its own.",
    )
    y = 1.75
    # Attention.
    _note(at, 0.15, y + 0.62, "x", fontsize=13, ha="center")
    for i, name in enumerate(("$W_q$", "$W_k$", "$W_v$")):
        height = y + 1.15 - 0.75 * i
        _arrow(at, (0.3, y + 0.62), (0.75, height + 0.2))
        _box(at, 0.75, height, 0.7, 0.42, name)
        _arrow(at, (1.45, height + 0.21), (2.35, height + 0.21))
    for i, name in ((1, "$l_k$"), (2, "$l_v$")):
        height = y + 1.15 - 0.75 * i + 0.21
        _sign(at, 1.9, height, "⊙", ORANGE)
        _note(at, 1.9, height - 0.33, name, colour=ORANGE, ha="center", fontsize=12)
    _box(at, 2.35, y - 0.45, 1.15, 2.15, "attention")
    _arrow(at, (3.5, y + 0.62), (3.8, y + 0.62))
    _box(at, 3.8, y + 0.41, 0.7, 0.42, "$W_o$")
    _arrow(at, (4.5, y + 0.62), (4.78, y + 0.62))
    _sign(at, 4.93, y + 0.62, "+")
    # Feed-forward.
    _arrow(at, (5.08, y + 0.62), (5.5, y + 0.62))
    _box(at, 5.5, y + 0.41, 0.7, 0.42, "$W_1$")
    _arrow(at, (6.2, y + 0.62), (6.45, y + 0.62))
    _box(at, 6.45, y + 0.41, 0.42, 0.42, "γ")
    _arrow(at, (6.87, y + 0.62), (7.08, y + 0.62))
    _sign(at, 7.23, y + 0.62, "⊙", ORANGE)
    _note(at, 7.23, y + 0.26, "$l_{ff}$", colour=ORANGE, ha="center", fontsize=12)
    _arrow(at, (7.38, y + 0.62), (7.65, y + 0.62))
    _box(at, 7.65, y + 0.41, 0.7, 0.42, "$W_2$")
    _arrow(at, (8.35, y + 0.62), (8.62, y + 0.62))
    # Adapter.
    _box(at, 8.62, y + 0.22, 0.95, 0.8, "", GREEN)
    for x, h in ((8.7, 0.62), (8.97, 0.26), (9.24, 0.62)):
        at.add_patch(Rectangle((x, y + 0.62 - h / 2), 0.24, h, facecolor="white", edgecolor=GREEN))
    _note(at, 9.09, y + 1.2, "adapter: down, γ, up", colour=GREEN, ha="center")
    _arrow(at, (9.57, y + 0.62), (9.83, y + 0.62))
    _sign(at, 9.98, y + 0.62, "+")
    _arrow(at, (10.13, y + 0.62), (10.42, y + 0.62))
    # LoRA beside W_q.
    top = y + 1.78
    for x in (0.82, 1.16):
        at.add_patch(
            Rectangle((x, top), 0.2, 0.34, facecolor=PALE[BLUE], edgecolor=BLUE, linewidth=1.4)
        )
    _note(at, 0.92, top + 0.17, "A", ha="center")
    _note(at, 1.26, top + 0.17, "B", ha="center")
    _arrow(at, (0.3, y + 0.75), (0.8, top + 0.14), BLUE, linestyle="--")
    _arrow(at, (1.38, top + 0.14), (1.75, y + 1.42), BLUE, linestyle="--")
    _sign(at, 1.86, y + 1.36, "+", BLUE, 0.12)
    _note(at, 1.5, top + 0.26, "LoRA: BA x is added, here to $W_q$ x", colour=BLUE)
    # Prefix.
    _box(at, 2.5, y - 0.33, 0.85, 0.36, "prefix", PINK)
    _note(
        at, 2.45, y - 0.75, "a prefix: keys and values that no token has", colour=PINK, ha="center"
    )
    # BitFit, and the sums that go around.
    for x0, x1 in ((0.3, 4.93), (5.2, 9.98)):
        low = y - 1.0 if x0 < 1 else y - 0.25
        at.plot(
            [x0, x0, x1, x1],
            [y + 0.62, low, low, y + 0.45],
            color=GREY,
            linewidth=1,
            alpha=0.5,
            zorder=0,
        )
    _note(at, 5.85, y + 1.0, "+ b", ha="center", fontsize=11, style="italic")
    _note(at, 5.85, y + 1.28, "BitFit: the biases", ha="center", style="italic")
    _note(
        at,
        0.15,
        0.42,
        "(IA)³: $l_k$, $l_v$ and $l_{ff}$ rescale what is there, one number a channel; like BA, "
        "they can be folded into the weights.\nAdapters and prefixes stay, and cost time at every "
        "query.",
    )
    return figure


def choices_as_a_tree(
    prompt: str,
    choices: Sequence[Sequence[str]],
    title: str = "Choices share their prompt: packed, it is computed once",
) -> Figure:
    """What ranking computes: each choice in a row of its own, and all of them as one tree.

    prompt: what stands for it; choices: their tokens
    """
    figure, at = _canvas(
        3.3 + 0.1 * len(choices),
        title,
        "Words stand for tokens. Two choices that begin alike share their first tokens too.",
    )
    height, wide, one = 0.34, 1.25, 1.02
    rows = [2.1 - 0.52 * i + 0.1 * len(choices) for i in range(len(choices))]
    for y, choice in zip(rows, choices, strict=True):
        _box(at, 0.15, y, wide, height, prompt, BLUE)
        for i, token in enumerate(choice):
            _box(
                at,
                0.15 + wide + 0.06 + i * (one + 0.04),
                y,
                one,
                height,
                token,
                ORANGE,
            )
    right, middle = 5.3, (rows[0] + rows[-1]) / 2
    _box(at, right, middle, wide, height, prompt, BLUE)
    places: dict[tuple[str, ...], tuple[float, float]] = {(): (right + wide, middle + height / 2)}
    for choice in choices:
        for i in range(len(choice)):
            path = tuple(choice[: i + 1])
            if path not in places:
                sharing = [
                    r for r, c in zip(rows, choices, strict=True) if tuple(c[: i + 1]) == path
                ]
                level = sum(sharing) / len(sharing)
                x = right + wide + 0.4 + i * (one + 0.12)
                before = places[path[:-1]]
                _arrow(at, before, (x, level + height / 2), GREY, arrowstyle="-")
                _box(at, x, level, one, height, choice[i], ORANGE)
                places[path] = (x + one, level + height / 2)
    alone, packed = sum(map(len, choices)), len(places) - 1
    _note(at, 0.15, 0.42, f"alone: {len(choices)} prompts, {alone} tokens of choices")
    _note(at, right, 0.42, f"packed: one prompt, {packed} tokens of choices")
    _note(
        at,
        0.15,
        0.14,
        "A token sees the ones before it on its own branch, so each choice gets the "
        "log-probability it has alone.",
    )
    return figure


def read_once(
    choices: Sequence[str],
    title: str = "An encoder–decoder reads once, and all choices share its keys and values",
) -> Figure:
    """An encoder–decoder reads a prompt once; its keys and values serve all choices."""
    sentence = "What the decoder looks back at is projected to keys and values once."
    figure, at = _canvas(3.0, title, sentence)
    _note(at, 0.15, 1.45, "prompt", fontsize=10)
    _arrow(at, (0.85, 1.45), (1.15, 1.45))
    _box(at, 1.15, 0.9, 1.7, 1.1, "encoder\n(once)", BLUE)
    _arrow(at, (2.85, 1.45), (3.3, 1.45))
    _box(at, 3.3, 1.55, 1.5, 0.5, "keys $W_k h$", BLUE)
    _box(at, 3.3, 0.85, 1.5, 0.5, "values $W_v h$", BLUE)
    _note(at, 4.05, 0.58, "projected once", ha="center", colour=BLUE)
    _box(at, 5.9, 0.75, 4.3, 1.5, "", GREY)
    _note(at, 8.05, 2.07, "decoder: one row, all choices", ha="center")
    _arrow(at, (4.8, 1.8), (5.9, 1.5), BLUE)
    _arrow(at, (4.8, 1.1), (5.9, 1.4), BLUE)
    _box(at, 6.05, 1.22, 0.75, 0.4, "start", GREY)
    levels = [1.42 + 0.24 * (len(choices) - 1) - 0.48 * i - 0.19 for i in range(len(choices))]
    for y, choice in zip(levels, choices, strict=True):
        _arrow(at, (6.8, 1.42), (7.15, y + 0.2), GREY, arrowstyle="-")
        _box(at, 7.15, y, 2.0, 0.38, choice, ORANGE)
        _box(at, 9.2, y, 0.75, 0.38, "end", ORANGE)
    _note(
        at, 0.15, 0.2, "T-Few's code repeats what was read for every choice, and projects it again."
    )
    return figure


def shots_in_a_query(
    shots: int, title: str = "ICL pays for its examples at every query, unless they are cached"
) -> Figure:
    """k examples before a query: read again every time, or found in a cache."""
    figure, at = _canvas(2.9, title, "Blue is computed, dotted is read from memory.")
    width, height = 0.5, 0.36
    for x0, name, cached in ((0.15, "nothing cached", False), (5.5, "cached", True)):
        _note(at, x0, 2.2, name, fontsize=10.5, weight="bold")
        for row in range(3):
            y = 1.68 - 0.48 * row
            for i in range(shots):
                x, done = x0 + i * (width + 0.04), cached and row > 0
                word, colour, line = ("", GREY, ":") if done else ("shot", BLUE, "-")
                _box(at, x, y, width, height, word, colour, linestyle=line)
            x = x0 + shots * (width + 0.04)
            _box(at, x, y, 0.85, height, f"query {row + 1}", ORANGE)
    _note(at, 0.15, 0.36, "every query reads k + 1 texts,\nwhere one without examples reads 1")
    _note(
        at,
        5.5,
        0.36,
        "the shots once; then a query reads its own text,\nand looks at keys and values "
        "that lie in memory",
    )
    return figure


def mixed_batch(
    tasks: Sequence[str],
    title: str = "One batch, several tasks: each row is multiplied by its own task's vector",
) -> Figure:
    """Rows of several tasks in one batch: each is multiplied by its own task's vector."""
    figure, at = _canvas(2.9, title, "What is folded into W is the same for all rows.")
    colours = (ORANGE, BLUE, GREEN, PINK)
    rows = [1.85 - 0.5 * i for i in range(len(tasks))]
    kinds = list(dict.fromkeys(tasks))
    _box(at, 3.5, rows[-1] - 0.05, 1.5, rows[0] - rows[-1] + 0.46, "W\nthe same\nfor all rows")
    for y, task in zip(rows, tasks, strict=True):
        colour = colours[kinds.index(task) % len(colours)]
        _box(at, 0.15, y, 2.6, 0.36, f"text of {task}", colour)
        _arrow(at, (2.75, y + 0.18), (3.5, y + 0.18))
        _arrow(at, (5.0, y + 0.18), (5.75, y + 0.18))
        _sign(at, 5.9, y + 0.18, "⊙", colour)
        _box(at, 6.55, y + 0.03, 1.6, 0.3, f"$l$ of {task}", colour)
        _arrow(at, (6.55, y + 0.18), (6.05, y + 0.18), colour)
        _arrow(at, (8.35, y + 0.18), (8.8, y + 0.18))
        _box(at, 8.8, y, 1.5, 0.36, "its answer", colour)
    _note(
        at,
        0.15,
        0.1,
        "One product for all rows, a multiplication of its own for each: an adapter that is folded "
        "into W could not do this.",
    )
    return figure


def funnel(sizes: Mapping[str, tuple[str, str]], title: str) -> Figure:
    """S0 → S4: each stage keeps the designs that follow what the last one found.

    sizes: by space, how many designs it has, and what is settled in it
    """
    figure, at = _canvas(3.2, title)
    step = 10.2 / len(sizes)
    for i, (name, (count, settled)) in enumerate(sizes.items()):
        left, right = 2.1 - 0.32 * i, 2.1 - 0.32 * (i + 1)
        x = 0.15 + i * step
        low = 1.6
        at.fill(
            [x, x + step - 0.12, x + step - 0.12, x],
            [low + left / 2, low + right / 2 + 0.1, low - right / 2 - 0.1, low - left / 2],
            color=PALE[BLUE],
            edgecolor=BLUE,
        )
        _note(at, x + step / 2 - 0.06, low + 0.14, name, ha="center", fontsize=13, weight="bold")
        _note(at, x + step / 2 - 0.06, low - 0.16, count, ha="center")
        _note(
            at,
            x + step / 2 - 0.06,
            0.12,
            settled,
            ha="center",
            va="bottom",
            colour=BLUE,
        )
    return figure


def what_a_dollar_buys(title: str) -> Figure:
    """Labels from people, hours of a teacher, or answers of an LLM: all end in a small student."""
    figure, at = _canvas(3.4, title)
    _note(at, 0.5, 1.55, "$", fontsize=34, ha="center", weight="bold")
    ways = (
        (2.3, BLUE, "people", "a label: cents,\nand right", "labels"),
        (
            1.3,
            ORANGE,
            "GPU hours",
            "a teacher, tuned on\na few labels",
            "its answers,\nwith doubts",
        ),
        (0.3, GREEN, "an LLM", "a prompt: a fraction\nof a cent", "its answers"),
    )
    for y, colour, who, what, gives in ways:
        _arrow(at, (0.8, 1.55), (1.5, y + 0.3), colour)
        _box(at, 1.5, y, 1.5, 0.62, who, colour)
        _note(at, 3.15, y + 0.31, what)
        _arrow(at, (5.0, y + 0.3), (5.6, y + 0.3), colour)
        _box(at, 5.6, y, 1.7, 0.62, gives, colour)
        _arrow(at, (7.3, y + 0.3), (8.2, 1.6), colour)
    _box(at, 8.2, 1.2, 1.0, 0.8, "student", GREY)
    _arrow(at, (9.2, 1.6), (9.6, 1.6))
    _note(at, 10.0, 1.6, "cheap\nanswers", ha="center")
    return figure
