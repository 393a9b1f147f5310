"""Tasks of the hub on copies with its own columns: labels, draws, templates, and clear errors."""

import re

import pytest
from datasets import ClassLabel, Dataset

import hub
from frugal import tasks
from frugal.errors import FrugalError
from frugal.fewshot import tfew
from frugal.papers import tables
from frugal.tasks import sources, texts

SPLIT = sorted(name for name, d in tasks.definitions().items() if d.source.split)
# Which words may stand for a label, in any template of any task.
MEANS = {
    "True": {"yes", "true", "the same", "one"},
    "False": {"no", "false", "another", "different", "two"},
    "entailment": {"yes", "certain", "always", "supported", "an answer", "right"},
    "neutral": {"unclear", "maybe", "possible", "sometimes", "undecided"},
    "contradiction": {"no", "impossible", "never", "refuted"},
    "not_entailment": {"no", "uncertain", "unsupported", "beside the point", "wrong"},
    "negative": {"negative", "no", "bad"},
    "positive": {"positive", "yes", "good"},
    "unacceptable": {"no", "unacceptable"},
    "acceptable": {"yes", "acceptable"},
    "not_equivalent": {"no", "different"},
    "equivalent": {"yes", "the same"},
    "not_duplicate": {"no", "new"},
    "duplicate": {"yes", "a repetition"},
    "choice1": {"choice1"},
    "choice2": {"choice2"},
}


@pytest.mark.parametrize("name", SPLIT)
def test_every_template_of_every_task_reads_the_hubs_columns_and_labels(name):
    hub.copy(name)
    task, definition = tasks.load(name), tasks.defined(name)
    assert task.drawable == 60
    assert len(task.rows) == (120 if definition.source.test else 60)
    labels = definition.labels or task.labels
    for template in task.under("all"):
        examples = task.draw(60, 0, template=template)
        for example, row in zip(examples, task._drawn(60, 0), strict=True):
            assert not re.search(r"[{}]", example.prompt + "".join(example.choices))
            read = example.prompt + "".join(example.choices)
            for column in definition.templates[template].columns - {"labels", "endings"}:
                assert str(row[column]) in read
            answer, said = labels[example.label], example.choices[example.label].strip().lower()
            if answer in MEANS:
                assert any(f"{said} ".startswith(f"{word} ") for word in MEANS[answer])
        assert len({e.label for e in examples}) == len(labels) or len(labels) > 60
    if definition.source.test:
        assert len(task.test()) == 60
    assert 0 < task.chance <= 0.5
    if definition.source.hub:  # whatever order its classes have there
        kind = hub.HUB[definition.source.hub, definition.source.config][definition.label]
        for row, own in zip(sources.splits(definition.source)["train"], task.rows, strict=False):
            raw = row[definition.label]
            said = kind.int2str(raw) if isinstance(kind, ClassLabel) else str(raw)
            assert labels[own["label"]] == said


def test_cb_and_anli_have_the_same_choices_for_the_same_label_in_other_orders():
    for name in ("cb", "anli-r1"):
        hub.copy(name)
    cb = {e.choices[e.label] for e in tasks.load("cb").draw(60, 0)}
    assert (
        cb
        == {" yes", " unclear", " no"}
        == {e.choices[e.label] for e in tasks.load("anli-r1").draw(60, 0)}
    )
    (contradicted,) = [
        e for e in tasks.load("cb").test() if e.prompt.startswith("premise 1\n")
    ]  # ClassLabel 1 of 3 there
    assert contradicted.choices[contradicted.label] == " no"


def test_shots_and_tasks_are_the_papers():
    printed = {row["dataset"].lower(): int(row["shots"]) for row in tables.records("tfew_shots")}
    mine = {name: tasks.defined(name).shots for name in printed}
    assert mine == printed


@pytest.mark.parametrize(
    ("name", "rows", "seed", "first"),
    [
        # `idx` of data/few_shot/<task>/32_shot/<seed>_seed.jsonl in T-Few's repository
        ("copa", 400, 0, [132, 309, 341, 196, 246, 60, 155, 261, 141, 214, 37, 134, 113, 348]),
        ("cb", 250, 42, [142, 6, 97, 60, 112, 181, 197, 184, 9, 104, 200, 216, 236, 240, 67]),
    ],
)
def test_draws_are_the_released_few_shot_files(name, rows, seed, first):
    hub.copy(name, rows=rows)
    task = tasks.load(name)
    assert list(task._drawn(len(first), seed)["idx"]) == first


def test_hellaswag_and_winogrande_take_choices_and_labels_from_texts():
    for name in ("h-swag", "winogrande"):
        hub.copy(name, rows=8)
    swag = tasks.load("h-swag").test()[2]
    assert swag.choices == tuple(f" endings 2.{j}" for j in range(4))
    assert (swag.prompt, swag.label) == ("ctx 2", 2)
    blank = tasks.load("winogrande").test()[1]
    assert blank.choices == (" option1 1", " option2 1")
    assert blank.label == 1  # "2"


def test_storycloze_comes_from_the_authors_files_and_says_how_to_get_them():
    with pytest.raises(FrugalError, match=r"ask for it at https://.* into .*/datasets/story_cloze"):
        tasks.load("storycloze")
    hub.copy("storycloze", rows=80)
    task = tasks.load("storycloze")
    first, second = task.test(2)
    assert first.prompt == "Sentence 0.0. Sentence 0.1. Sentence 0.2. Sentence 0.3."
    assert (first.choices, first.label) == ((" Ending 0.1.", " Ending 0.2."), 0)
    assert second.label == 1
    assert len(task.draw(70, 1024)) == 70


def test_banking_lists_all_labels_in_the_prompt_with_commas_and_drops_two_losses():
    hub.copy("raft-banking-77", rows=77)
    task = tasks.load("raft-banking-77")
    example = task.draw(1, 0)[0]
    assert len(example.choices) == 77
    assert example.choices[0] == " Refund not showing up No. 0"
    assert "Refund not showing up No, 0, card topic 1, card topic 2" in example.prompt
    assert task.chance == pytest.approx(1 / 77)
    recipe = tfew.Recipe.of(task.recipe)
    assert (recipe.losses, recipe.max_tokens) == (("lm",), 512)


def test_raft_keeps_its_test_labels_and_has_questions_instead():
    hub.copy("raft-overruling", rows=50)
    task = tasks.load("raft-overruling")
    assert (task.test_size, len(task.questions()), len(task.questions(3))) == (0, 50, 3)
    assert len(task.test(shots=20, seed=0)) == 30
    with pytest.raises(FrugalError, match="no example is left to score"):
        task.test(shots=50)
    hub.copy("rte")
    with pytest.raises(FrugalError, match="rte: has no unlabelled examples"):
        tasks.load("rte").questions()


@pytest.mark.parametrize("name", ["cb", "h-swag", "winogrande"])
def test_hidden_labels_are_refused(name):
    hub.copy(name, hidden=["test"])
    with pytest.raises(FrugalError, match=r", test: row 0: (label|answer) holds (-1|''), which is"):
        tasks.load(name)


def test_other_columns_or_classes_than_expected_are_named(monkeypatch):
    hub.copy("cb")
    hub.copy("rte")
    cb, rte = tasks.defined("cb"), tasks.defined("rte")
    other = {**tasks.definitions(), "cb": cb.model_copy(update={"source": rte.source})}
    monkeypatch.setattr("frugal.tasks.task.definitions", lambda: other)
    with pytest.raises(FrugalError, match=r"train: row 1: label holds 1, which is none of"):
        tasks.load("cb")
    other["cb"] = cb.model_copy(update={"source": tasks.defined("wic").source})
    hub.copy("wic")
    with pytest.raises(FrugalError, match=r"no column 'hypothesis'; there are word, sentence1"):
        tasks.load("cb")
    other["cb"] = cb.model_copy(update={"label": "labels"})
    with pytest.raises(FrugalError, match="no column 'labels'; there are premise, hypothesis"):
        tasks.load("cb")
    other["cb"] = cb.model_copy(update={"label": "premise", "labels": ()})
    with pytest.raises(FrugalError, match="'premise' is no column that names classes"):
        tasks.load("cb")


def test_without_the_hub_one_error_says_what_works(monkeypatch):
    def unreachable(*arguments, **options):
        raise ConnectionError("Couldn't reach 'aps/super_glue' on the Hub (ConnectError)")

    monkeypatch.setattr(sources, "load_dataset", unreachable)
    with pytest.raises(FrugalError) as error:
        tasks.load("rte")
    message = str(error.value)
    assert "movie-reviews" in message
    assert "a JSONL file" in message
    assert "hf download aps/super_glue --repo-type dataset" in message
    assert "ConnectError" in message
    assert "\n" not in message


def test_the_hub_is_asked_for_its_parquet_files(monkeypatch):
    asked = []
    monkeypatch.setattr(sources, "load_dataset", lambda *a, **o: asked.append((a, o)) or {})
    sources.splits(tasks.defined("anli-r2").source)
    files = {"train": "plain_text/train_r2/*.parquet", "test": "plain_text/test_r2/*.parquet"}
    assert asked == [
        (("facebook/anli",), {"data_files": files, "revision": "refs/convert/parquet"})
    ]


def test_a_copy_without_the_files_is_named():
    (sources.local() / "nyu-mll" / "glue").mkdir(parents=True)
    with pytest.raises(FrugalError, match=r"nyu-mll/glue: holds no sst2/train/\*\.parquet or"):
        tasks.load("sst2")


def test_ratings_of_the_hub_are_read_from_a_copy_and_known_by_what_it_holds():
    def put(rows):
        for split in ("train", "validation"):
            folder = sources.local() / "nyu-mll/glue/stsb" / split
            folder.mkdir(parents=True, exist_ok=True)
            pairs = [
                {"sentence1": f"{split} {i}", "sentence2": f"other {i}", "label": i / 4}
                for i in range(rows)
            ]
            Dataset.from_list(pairs).to_parquet(folder / "0000.parquet")

    with pytest.raises(FrugalError, match=r"'nyu-mll/glue' \(stsb\): .* movie-reviews-rating, "):
        texts.load("stsb", 4, 4, 0)
    put(9)
    task, first = texts.load("stsb", 20, 3, seed=1), texts.content("stsb")
    assert (task.classes, task.metric, len(task.train)) == (1, "pearson", 9)
    assert task.test == [f"1. validation {i}\n2. other {i}" for i in range(3)]
    assert task.test_labels == [0, 0.25, 0.5]
    put(10)
    assert texts.content("stsb") != first
