"""A look at a task: what is counted is what is there."""

import json

from frugal import tasks
from frugal.tasks.look import MANY, look


def test_rows_answers_and_words_are_counted(tmp_path):
    file = tmp_path / "own.jsonl"
    lines = [
        {
            "prompt": "word " * (i + 1),
            "choices": [" no", " yes", " maybe"][: 2 + i % 2],
            "label": i // 6,
        }
        for i in range(8)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = look(tasks.load(file))
    assert (found["to draw"], found["to test"], found["choices"]) == (8, 8, "2 to 3")
    assert found["right answers"] == "no 75%, yes 25%"
    assert found["words"].split(" · ")[1] in ("4", "5")  # of 1 to 8
    prompt, _, answer = found["for example"].rpartition(" → ")
    pairs = [(line["prompt"].strip(), line["choices"][line["label"]].strip()) for line in lines]
    assert (prompt, answer) in pairs


def test_many_answers_are_counted_not_listed(tmp_path):
    file = tmp_path / "own.jsonl"
    lines = [
        {"prompt": f"p{i}", "choices": [f" a{i}", f" b{i}"], "label": 0} for i in range(MANY + 1)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert look(tasks.load(file))["right answers"] == f"{MANY + 1} different ones"


def test_a_named_task_is_looked_at_where_it_is_tested():
    task = tasks.load("counting")
    found = look(task, of=10)
    assert (found["to draw"], found["to test"]) == (task.drawable, task.test_size)
    first = task.test(1)[0]
    assert found["for example"] == f"{first.prompt.strip()} → {first.choices[first.label].strip()}"
