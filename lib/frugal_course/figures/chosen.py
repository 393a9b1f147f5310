"""Which texts to label (chapter 6): what choosing them brings over texts at random."""

from collections.abc import Mapping

import pandas as pd

from frugal import stats
from frugal_course.names import name

CHOOSERS = {
    "farthest": "unlike each other (greedy k-centre)",
    "typical": "typical (one of each cluster of k-means)",
    "unsure": "unsure (the best two choices score most alike)",
}
# `frugal.choice.active.against_random`: by task and chooser
Found = Mapping[tuple[str, str], stats.Difference]


def chosen_table(found: Found) -> pd.DataFrame:
    """Each chooser less random choice: a row a chooser, a column a task."""
    tasks = dict.fromkeys(task for task, _ in found)
    rows = {
        words: {name(task): str(found[task, who]) for task in tasks if (task, who) in found}
        for who, words in CHOOSERS.items()
    }
    return pd.DataFrame(rows).T.rename_axis("texts that are")


def chosen_sentence(found: Found) -> str:
    """How many choosers beat random choice, and the ends of what they bring."""
    gains = [gain for gain in found.values() if gain.clear and gain.difference > 0]
    ends = sorted(found, key=lambda key: found[key].difference)
    (worst, bad), (best, good) = ends[0], ends[-1]
    first = (
        f"{len(gains)} of {len(found)} choices of texts beat random ones for certain"
        if gains
        else f"No choice of texts beats random ones for certain ({len(found)} tried)"
    )
    return (
        f"{first}: at best {found[ends[-1]]} ({good}, {name(best)}), "
        f"at worst {found[ends[0]]} ({bad}, {name(worst)})."
    )
