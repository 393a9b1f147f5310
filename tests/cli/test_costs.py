"""The calculators from a shell: the numbers, unrounded, and one line for bad input."""

import json

import pytest


@pytest.fixture
def run(frugal):
    """Run a command that is written as one line."""
    return lambda text: frugal(*text.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "query --arch gpt3-175b --shots 41 --example-tokens 98 --query-tokens 103",
            {"flops": 1.44235e15, "tokens": 4121, "count": "paper"},
        ),
        ("query --arch t0-11b --shots 0", {"flops": 1.133e12}),
        ("query --arch gpt3-175b --shots 41 --cached", {"tokens": 103, "flops": 3.605e13}),
        (
            "train --arch t0-11b --steps 1000 --batch 8 --tokens 103",
            {"flops": 2.7192e16, "count": "paper"},
        ),
        (
            "cache --arch gpt3-175b --tokens 16384 --dtype float32",
            {"bytes": 154_618_822_656, "gib": 144.0, "gb": 154.618822656},
        ),
        ("adapter --arch t0-11b --method ia3", {"params": 1_081_344, "bytes": 4_325_376}),
        ("adapter --arch t0-3b --method lora", {"params": 8_847_360}),
        ("labels --task fever --count 5000", {"usd": 645.0, "price_date": "2023-07"}),
    ],
)
def test_numbers(run, line, expected):
    code, out, _ = run(f"costs {line} --json")
    found = json.loads(out)
    assert code == 0
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    "line",
    [
        "query --arch t0-3b --count exact",
        "train --arch t0-11b --steps 10 --batch 8 --tokens 103 --method ia3 --count exact",
    ],
)
def test_parts_add_up(run, line):
    found = json.loads(run(f"costs {line} --json")[1])
    assert found["count"] == "exact"
    assert sum(part["flops"] for part in found["parts"]) == found["flops"]


def test_freezing_shows_in_the_exact_count_alone(run):
    def spent(how):
        line = f"costs train --arch t0-3b --steps 1 --batch 1 --tokens 103 {how} --json"
        return json.loads(run(line)[1])["flops"]

    assert spent("--method ia3") == spent("--method full")
    assert spent("--method ia3 --count exact") < spent("--method full --count exact")


def test_old_and_unverified_prices_are_said_so(run):
    assert "dates from 2023-07" in run("costs labels --task fever --count 5")[2]
    code, out, err = run("costs compare --arch t0-11b --icl-arch gpt3-175b --queries 100 --json")
    assert code == 0
    assert "unverified" in err
    assert len(json.loads(out)["options"]) == 6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("query --arch gpt3-175b --shots 41", "4121 tokens are more than the 2048"),
        ("query --arch gpt3-175b --shots 41 --cached", "4121 tokens are more than the 2048"),
        ("query --arch gpt3-175b --shots 19", ""),
        ("query --arch llama3-8b --shots 41", ""),  # rotary: nothing is known here
        ("cache --arch gpt3-175b --tokens 16384", "16384 tokens are more than the 2048"),
    ],
)
def test_a_prompt_the_model_could_not_read_is_said_so(run, line, said):
    code, out, err = run(f"costs {line} --json")
    assert code == 0
    assert json.loads(out)
    assert said in err if said else err == ""


def test_memory(run):
    found = json.loads(run("costs memory --arch t0-3b --tokens 256 --method ia3 --json")[1])
    assert found["low"] == sum(part["low"] for part in found["parts"]) < found["high"]


def test_audit(run):
    found = json.loads(run("papers audit --json")[1])
    assert found["checked"] == len(found["items"]) > 300
    assert found["failed"] == sum(finding["cells"] for finding in found["findings"])
    failed = json.loads(run("papers audit --verdict failed --paper tfew --json")[1])
    assert len(failed["items"]) == failed["failed"]
    assert {"id", "paper", "where", "printed", "recomputed", "verdict", "note"} <= set(
        failed["items"][0]
    )
    assert len(json.loads(run("papers table tfew_table1 --json")[1])["records"]) == 24


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("costs query --arch gpt3-175", "did you mean 'gpt3-175b'"),
        ("costs query --arch gpt3-175b --shots -1", "shots"),
        ("costs labels --task feverr --count 3", "did you mean 'fever'"),
        ("costs labels --task fever --count -3", "count"),
        ("costs compare --arch t0-11b --queries 3 --mfu 1.5", "mfu"),
        ("costs compare --arch t0-11b --queries 3 --usd-per-hour nan", "--usd-per-hour"),
        ("costs adapter --arch t0-11b --method ia4", "did you mean 'ia3'"),
        ("costs cache --arch gpt3-175b --tokens 1.5", "--tokens"),
        ("papers audit --paper tfews", "did you mean 'tfew'"),
        ("papers table tfew_table_1", "did you mean 'tfew_table1'"),
    ],
)
def test_bad_input_is_one_line(run, line, message):
    code, out, err = run(line)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
