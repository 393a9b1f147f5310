"""Small datasets under the very columns and class names that the hub's have.

Columns and names are those of the datasets' own descriptions (dataset_infos.json, raft.py).
"""

import csv

from datasets import ClassLabel, Dataset, Features, List, Value

from frugal import tasks
from frugal.tasks import sources

TEXT, INT = Value("string"), Value("int32")
PAIR = {"premise": TEXT, "hypothesis": TEXT}
SENTENCES = {"sentence1": TEXT, "sentence2": TEXT}
TRUTH = ClassLabel(names=["False", "True"])
FOLLOWS = ClassLabel(names=["entailment", "not_entailment"])
NLI = ClassLabel(names=["entailment", "neutral", "contradiction"])
BANKING = [f"Refund_not_showing_up_No._{i}" if i == 0 else f"card_topic_{i}" for i in range(77)]


def raft(columns, labels):
    texts = dict.fromkeys(columns, TEXT)
    return {**texts, "ID": INT, "Label": ClassLabel(names=["Unlabeled", *labels])}


HUB = {
    ("aps/super_glue", "copa"): {
        **dict.fromkeys(["premise", "choice1", "choice2", "question"], TEXT),
        "idx": INT,
        "label": ClassLabel(names=["choice1", "choice2"]),
    },
    ("aps/super_glue", "cb"): {
        **PAIR,
        "idx": INT,
        "label": ClassLabel(names=["entailment", "contradiction", "neutral"]),
    },
    ("aps/super_glue", "rte"): {**PAIR, "idx": INT, "label": FOLLOWS},
    ("aps/super_glue", "wic"): {
        "word": TEXT,
        **SENTENCES,
        **dict.fromkeys(["start1", "start2", "end1", "end2", "idx"], INT),
        "label": TRUTH,
    },
    ("aps/super_glue", "wsc.fixed"): {
        "text": TEXT, "span1_index": INT, "span2_index": INT, "span1_text": TEXT,
        "span2_text": TEXT, "idx": INT, "label": TRUTH,
    },
    ("facebook/anli", "plain_text"): {"uid": TEXT, **PAIR, "label": NLI, "reason": TEXT},
    ("Rowan/hellaswag", "default"): {
        "ind": INT,
        **dict.fromkeys(["activity_label", "ctx_a", "ctx_b", "ctx"], TEXT),
        "endings": List(TEXT),
        **dict.fromkeys(["source_id", "split", "split_type", "label"], TEXT),
    },
    ("allenai/winogrande", "winogrande_xl"): dict.fromkeys(
        ["sentence", "option1", "option2", "answer"], TEXT
    ),
    ("nyu-mll/glue", "mnli"): {**PAIR, "label": NLI, "idx": INT},
    ("nyu-mll/glue", "qnli"): {"question": TEXT, "sentence": TEXT, "label": FOLLOWS, "idx": INT},
    ("nyu-mll/glue", "wnli"): {
        **SENTENCES,
        "label": ClassLabel(names=["not_entailment", "entailment"]),
        "idx": INT,
    },
    ("nyu-mll/glue", "sst2"): {
        "sentence": TEXT,
        "label": ClassLabel(names=["negative", "positive"]),
        "idx": INT,
    },
    ("nyu-mll/glue", "cola"): {
        "sentence": TEXT,
        "label": ClassLabel(names=["unacceptable", "acceptable"]),
        "idx": INT,
    },
    ("nyu-mll/glue", "mrpc"): {
        **SENTENCES,
        "label": ClassLabel(names=["not_equivalent", "equivalent"]),
        "idx": INT,
    },
    ("nyu-mll/glue", "qqp"): {
        "question1": TEXT,
        "question2": TEXT,
        "label": ClassLabel(names=["not_duplicate", "duplicate"]),
        "idx": INT,
    },
} | {
    ("ought/raft", config): raft(columns, labels)
    for config, columns, labels in (
        ("ade_corpus_v2", ["Sentence"], ["ADE-related", "not ADE-related"]),
        ("banking_77", ["Query"], BANKING),
        ("terms_of_service", ["Sentence"], ["not potentially unfair", "potentially unfair"]),
        (
            "tai_safety_research",
            [
                *("Title", "Abstract Note", "Url", "Publication Year", "Item Type", "Author"),
                "Publication Title",
            ],
            ["TAI safety research", "not TAI safety research"],
        ),
        (
            "neurips_impact_statement_risks",
            ["Paper title", "Paper link", "Impact statement"],
            ["doesn't mention a harmful application", "mentions a harmful application"],
        ),
        ("overruling", ["Sentence"], ["not overruling", "overruling"]),
        (
            "systematic_review_inclusion",
            ["Title", "Abstract", "Authors", "Journal"],
            ["included", "not included"],
        ),
        ("one_stop_english", ["Article"], ["advanced", "elementary", "intermediate"]),
        ("tweet_eval_hate", ["Tweet"], ["hate speech", "not hate speech"]),
        ("twitter_complaints", ["Tweet text"], ["complaint", "no complaint"]),
        (
            "semiconductor_org_types",
            ["Paper title", "Organization name"],
            ["company", "research institute", "university"],
        ),
    )
}  # fmt: skip
FIRST_ID = 50  # of RAFT: its identifiers are no row numbers
# What a label column of texts holds.
TEXT_LABELS = {"Rowan/hellaswag": ["0", "1", "2", "3"], "allenai/winogrande": ["1", "2"]}
STORY = [
    "InputStoryid",
    *(f"InputSentence{i}" for i in range(1, 5)),
    "RandomFifthSentenceQuiz1",
    "RandomFifthSentenceQuiz2",
    "AnswerRightEnding",
]


def value(source, column, kind, i, hidden):
    """What row i holds in a column; labels go round."""
    if isinstance(kind, ClassLabel):
        named = [n for n, text in enumerate(kind.names) if text != "Unlabeled"]
        nothing = 0 if kind.names[0] == "Unlabeled" else -1
        return nothing if hidden else named[i % len(named)]
    if column in ("label", "answer"):
        return "" if hidden else TEXT_LABELS[source.hub][i % len(TEXT_LABELS[source.hub])]
    if isinstance(kind, List):
        return [f"{column} {i}.{j}" for j in range(4)]
    if column == "ID":
        return FIRST_ID + i
    return i if kind == INT else f"{column} {i}"


def copy(name, rows=60, hidden=()):
    """A copy of the dataset of task `name`, `rows` rows a split, where `sources` looks for it."""
    source = tasks.defined(name).source
    uses = {"train": source.train, "test": source.test, "unlabelled": source.unlabelled}
    for use, split in uses.items():
        if split and source.folder:
            folder = sources.local() / source.folder
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / split).open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(STORY)
                writer.writerows([f"id{i}", *story(i), i % 2 + 1] for i in range(rows))
        elif split:
            features = Features(HUB[source.hub, source.config])
            hide = use == "unlabelled" or use in hidden
            columns = {
                column: [value(source, column, kind, i, hide) for i in range(rows)]
                for column, kind in features.items()
            }
            folder = sources.local() / source.hub / source.config / split
            folder.mkdir(parents=True, exist_ok=True)
            Dataset.from_dict(columns, features=features).to_parquet(folder / "0000.parquet")


def story(i):
    return [f"Sentence {i}.{j}." for j in range(4)] + [f"Ending {i}.1.", f"Ending {i}.2."]
