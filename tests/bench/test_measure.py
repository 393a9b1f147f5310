"""What the bench's rows say, and which of them are measured again."""

import pandas as pd
import pytest
import roofline
import torch
from measure import COLUMNS, Answer, Work, compare, read, row, run

from frugal.engine import backbones
from frugal.kernels import int8_products

WORKS = ("a step", "a ranking", "another step")


def works(seen, seconds=1.0):
    def rows(name):
        seen.append(name)
        return [row(name, "HF peft", "bfloat16", "int8", 3.0, seconds, 2.5, 5)]

    return [Work(name, lambda name=name: rows(name)) for name in WORKS]


def test_what_is_measured_is_written_at_once_and_not_measured_again(tmp_path):
    out, seen = tmp_path / "results" / "bench.csv", []
    first, second, third = works(seen)

    def killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([first, second._replace(rows=killed), third], out)
    assert [r["work"] for r in read(out)] == ["a step"]
    run(works(seen), out)
    assert seen == list(WORKS)
    assert list(pd.read_csv(out).columns) == COLUMNS
    run(works(seen, seconds=1.5), out, only="another", again=True)
    assert seen == [*WORKS, "another step"]
    assert [(r["work"], r["ratio"]) for r in read(out)] == list(zip(WORKS, (3, 3, 2), strict=True))


def test_rows_of_another_day_or_from_before_there_were_precisions_are_measured_again(tmp_path):
    out, seen = tmp_path / "bench.csv", []
    former = {"peer": "HF peft", "peer_s": 2.806, "ours_s": 0.761, "ratio": 3.685, "goal": 3}
    former |= {"date": "2026-11-25", "machine": "x86_64, 2 threads", "torch": "2.13.0+cpu"}
    pd.DataFrame([{"work": work} | former for work in ("a step", "gone")]).to_csv(out, index=False)
    assert {r["precision"] for r in read(out)} == {"float32"}
    run(works(seen), out, only="ranking")
    assert [(r["work"], r["ratio"]) for r in read(out)] == [("a step", 3.685), ("a ranking", 3)]
    run(works(seen), out)
    assert seen == ["a ranking", "a step", "another step"]


def test_a_name_that_nothing_has_says_what_there_is():
    with pytest.raises(SystemExit, match="a ranking, another step"):
        run(works([]), None, only="absent")


def test_a_peer_counts_in_its_faster_precision_and_a_goal_is_our_fastest_ones(monkeypatch):
    seconds = {
        ("theirs", "float32"): 4.0,
        ("theirs", "bfloat16"): 3.0,
        ("ours", "float32"): 2.0,
        ("ours", "int8"): 1.0,
    }

    def turns(sides, repeats):
        return seconds, {key: side() for key, side in sides.items()}

    monkeypatch.setattr("measure.turns", turns)
    exact = Answer(torch.ones(2), torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
    rough = Answer(torch.zeros(2), torch.tensor([1.0, 1.0]), torch.tensor([0, 0]))
    theirs = {"float32": lambda: Answer(exact.values), "bfloat16": lambda: rough}
    ours = {"float32": lambda: exact, "int8": lambda: rough}
    goals = {("HF peft", "fastest"): 5.0, ("ours", "int8"): 2.5}
    found = compare("a step", "HF peft", theirs, ours, goals, 3, 1e-4)
    shown = ("peer", "peer_precision", "precision", "ratio", "goal")
    assert [tuple(r[name] for name in shown) for r in found] == [
        ("HF peft", "bfloat16", "float32", 1.5, None),
        ("HF peft", "bfloat16", "int8", 3.0, 5.0),
        ("ours", "float32", "int8", 2.0, 2.5),
    ]
    assert "same_predictions" not in found[0]
    assert all((r["same_predictions"], r["gradient_cosine"]) == (0.5, 0.7071) for r in found[1:])
    with pytest.raises(AssertionError):
        compare("a step", "HF peft", theirs | {"float32": lambda: rough}, ours, goals, 3, 1e-4)


@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize("inference", [False, True])
def test_all_products_of_a_forward_pass_are_written_down(kind, inference, monkeypatch):
    # Where integer units are slow, what is multiplied are floats made of the weights.
    monkeypatch.setattr(int8_products, "_integer_units", lambda device: True)
    model = backbones.load("tiny-causal", device="cpu", precision=kind).model
    ids = torch.arange(1, 9)[None]
    with torch.inference_mode(inference), roofline.Products(model) as products:
        model(input_ids=ids)
    weights = {p.data_ptr() for p in model.parameters()}
    of_weights = [args for _, args, _ in products.found if args[1].data_ptr() in weights]
    # q, k, v, o, gate, up and down, of which five read two inputs; and the vocabulary.
    in_a_layer = {"float32": 7, "int8": 4}[kind]
    assert len(of_weights) == in_a_layer * model.config.num_hidden_layers + 1
    products.again()
