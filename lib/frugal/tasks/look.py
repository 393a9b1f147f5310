"""A look at a task before anything is done with it: how many rows, which answers, how long."""

import statistics
from collections import Counter
from typing import Any

from frugal.tasks.task import Task

MANY = 8  # answers that are listed by name


def look(task: Task, of: int = 1000) -> dict[str, Any]:
    """What a reader should have seen of a task, from its first `of` examples for testing.

    Keys: task; to draw, to test (how many examples there are); choices (a question's, fewest to
    most); right answers (how often each is right, the most frequent first); words (of a prompt:
    the 5th, 50th and 95th of a hundred); for example (a prompt, and its right answer behind →).
    """
    examples = task.test(of)
    right = Counter(e.choices[e.label].strip() for e in examples)
    shares = [f"{name} {count / len(examples):.0%}" for name, count in right.most_common(MANY)]
    if len(right) > MANY:
        shares = [f"{len(right)} different ones"]
    sizes = sorted({len(e.choices) for e in examples})
    words = sorted(len(e.prompt.split()) for e in examples)
    first = examples[0]
    cuts = statistics.quantiles(words, n=20) if len(words) > 1 else words * 19
    return {
        "task": task.name,
        "to draw": task.drawable,
        "to test": task.test_size or len(task.rows),
        "choices": f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}",
        "right answers": ", ".join(shares),
        "words": " · ".join(f"{cuts[i]:.0f}" for i in (0, 9, 18)),
        "for example": f"{first.prompt.strip()} → {first.choices[first.label].strip()}",
    }
