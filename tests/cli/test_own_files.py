"""A user's own file in every command that takes a task: the same answers from JSONL and a table."""

import csv
import json

import pytest

from frugal import tasks

TEXTS = [
    f"{['카드가 기계에 걸렸어요', '송금이 도착하지 않았어요'][i % 2]} {{{i}}}, 제발"
    for i in range(24)
]
LABELS = ["카드", "송금"]


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    """Every command runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def korean(tmp_path):
    """A table with a Korean name, as Excel writes it, and the same as JSONL."""
    path = tmp_path / "문의.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = [(i, text, LABELS[i % 2]) for i, text in enumerate(TEXTS)]
        csv.writer(file, delimiter=";").writerows([("", "text", "label"), *rows])
    choices = [f" {label}" for label in sorted(LABELS)]
    lines = [
        {"prompt": f"문의: {text}\n부서:", "choices": choices, "label": (i + 1) % 2}
        for i, text in enumerate(TEXTS)
    ]
    path.with_suffix(".jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
    )
    assert sorted(LABELS) == LABELS[::-1]
    return path


def same(result):
    found = {k: v for k, v in result.items() if "seconds" not in k and k not in ("task", "options")}
    if "reason" in found:  # which names the file
        found["reason"] = found["reason"].replace(".csv,", ".jsonl,")
    return found


def test_a_table_and_jsonl_give_the_same_in_every_command(frugal, korean, tmp_path):
    template = ["--template", r"문의: {text}\n부서:"]
    tiny = ["--backbone", "tiny-causal", "--json"]
    fast = ["--budget", 5, "--preset", "smoke", "--usd-per-hour", 1, "--labels", 8, "--json"]
    people = ["--by", "people", "--cap", 9, "--usd", 0.1, "--count", 6, "--json"]
    for command in (
        ["rank", *tiny, "--shots", 4],
        ["tfew", *tiny, "--shots", 8, "--steps", 2],
        ["plan", *fast, "--task"],
        ["budgets", "label", *people],
    ):
        results = []
        for path, more in ((korean, template), (korean.with_suffix(".jsonl"), [])):
            folder = ["--folder", tmp_path / f"labels{path.suffix}"] if "label" in command else []
            status, out, err = frugal(*command, path, *more, *folder)
            assert status == 0, err
            results.append(json.loads(out))
            assert results[-1].get("task", str(path)) == str(path)
        if command[0] == "plan":  # its reason says prices, which seconds do not change
            assert [o["accuracy"] for o in results[0]["options"]] == [
                o["accuracy"] for o in results[1]["options"]
            ]
        assert same(results[0]) == same(results[1])


def test_a_study_takes_a_table_and_says_what_repeats(frugal, korean):
    korean.write_text(
        "\ufefftext,label\n"
        + "".join(f'"{t}",{LABELS[i % 2]}\n' for i, t in enumerate([*TEXTS, *TEXTS]))
    )
    few = ["--set", "labels=[4]", "--set", 'students=["1 layer"]', "--set", "seeds=[0]"]
    few += ["--set", f"task={korean}", "--set", "usd_per_hour=0.001", "--set", "unlabelled=4"]
    status, out, err = frugal("budgets", "study", "--preset", "smoke", *few, "--json")
    assert status == 0, err
    assert json.loads(out)["runs"] == 4
    assert "24 of 48 lines repeat an earlier one" in err


def test_a_double_export_is_said_and_what_contradicts_is_counted(frugal, tmp_path):
    rows = [
        {"prompt": f"Ticket {i}: trouble. Team:", "choices": [" cards", " loans"], "label": i % 2}
        for i in range(20)
    ]
    again = [{**row, "label": 1 - row["label"]} if i < 2 else row for i, row in enumerate(rows)]
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *again]))
    for command in (["rank"], ["tfew", "--steps", 2]):
        status, out, err = frugal(
            *command, path, "--backbone", "tiny-causal", "--shots", 8, "--json"
        )
        assert status == 0
        assert json.loads(out)["examples"] == 12
        assert err.count("20 of 40 lines repeat an earlier one") == 1
        assert "2 of these contradict it (line 1 says 'cards', line 21 says 'loans')" in err
    priced = ["--budget", 5, "--preset", "smoke", "--usd-per-hour", 1, "--labels", 8, "--json"]
    status, out, err = frugal("plan", "--task", path, *priced)
    assert json.loads(out)["scored"] == 12
    assert "20 of 40 lines repeat" in err


def test_what_trains_and_what_is_scored_are_of_one_kind_and_apart(frugal, tmp_path):
    train, test, other = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"
    train.write_text("text,label\n" + "".join(f"text {i},{'xy'[i % 2]}\n" for i in range(8)))
    test.write_text("text,label\nnew,x\ntext 1,y\n")
    other.write_text("text,label\nnew,x\nold,z\n")
    tiny = ["--backbone", "tiny-causal", "--shots", 8, "--json"]
    for command in (
        ["rank", test, "--train", train],
        ["tfew", train, "--test", test, "--steps", 2],
    ):
        status, out, err = frugal(*command, *tiny)
        assert (status, json.loads(out)["examples"]) == (0, 1)
        assert "b.csv: 1 of its examples are also among the 8 drawn" in err
    for command in (["rank", other, "--train", train], ["tfew", train, "--test", other]):
        status, out, err = frugal(*command, *tiny)
        assert (status, out) == (2, "")
        assert "c.csv, line 3: label: 'z' is none of those to learn from: 'x', 'y'" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rank", "a.csv", "--template", "{tex}"], "unknown column 'tex'; did you mean 'text'"),
        (["rank", "counting", "--template", "{word}"], "counting has templates of its own"),
        (["tfew", "a.csv", "--test", "."], ".: is a folder"),
        (["rank", "a.csv", "--train", "gone.tsv"], "gone.tsv: No such file"),
        (["rank", "one.csv"], "one.csv: the label is always 'x'"),
        (["plan", "--budget", "1", "--task", "row.csv"], "the label is always"),
        (["plan", "--budget", "1", "--task", "two.csv", "--labels", "2"], "some must be left"),
        (["budgets", "label", "a.csv", "--by", "people", "--cap", "1", "--folder", "f", "--count",
          "99"], "shots must be between 0 and 3"),
        (["tfew", "bad.csv", "--dry-run"], "bad.csv, line 3: 1 fields; the header has 2"),
    ],
)  # fmt: skip
def test_bad_files_and_templates_are_one_line_and_status_two(frugal, tmp_path, argv, message):
    for name, rows in {
        "a.csv": "a,x\nb,y\nc,x\n", "one.csv": "a,x\nb,x\n", "row.csv": "a,x\n",
        "two.csv": "a,x\nb,y\n", "bad.csv": "a,x\nb\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text("text,label\n" + rows)
    argv = [*argv, "--preset", "smoke"] if argv[0] != "budgets" else argv
    status, out, err = frugal(*argv)
    assert (status, out) == (2, "")
    assert err.startswith("frugal: ")
    assert message in err
    assert err.count("\n") == 1


def test_the_overlap_of_a_benchmarks_own_splits_is_said_and_scored(frugal):
    import hub

    hub.copy("rte")  # whose rows are the same in both splits
    status, out, err = frugal("rank", "rte", "--backbone", "tiny-causal", "--shots", 4, "--json")
    assert (status, json.loads(out)["examples"]) == (0, 60)
    assert "rte: 4 of its test examples are also among the 4 drawn" in err
    assert len(tasks.load("rte").test(shots=4)) == 60
