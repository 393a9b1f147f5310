"""The calculators from a shell: the numbers, unrounded, and one line for bad input."""

import json

import pytest

from frugal import data
from frugal.costs import prices


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


def test_every_price_is_listed_with_its_day_and_what_to_know_of_it(run):
    code, out, err = run("costs prices --json")
    found = json.loads(out)["prices"]
    assert code == 0
    assert {p["kind"] for p in found} == {"gpu", "label", "token", "api"}
    assert all(p["source"] and (p["checked_on"] or p["valid_from"]) for p in found)
    assert all(any("unverified" in w for w in p["warnings"]) for p in found if p["kind"] == "api")
    assert "prices that are unverified: a100-80gb, text-davinci-003, gpt-6.1-sol," in err
    assert "prices that are older than 180 days: a100-40gb, a40," in err
    code, out, _ = run("costs prices gpt-6.1-sol fever --json")
    first, *tiers = json.loads(out)["prices"]
    assert (first["sku"], first["usd"], first["cached_input"]) == ("fever", 0.129, None)
    assert [(p["above"], p["usd"], p["cached_input"]) for p in tiers] == [
        (None, 2.0, 0.1),
        (272000.0, 4.0, 0.2),
    ]
    assert "output=10" in run("costs prices gpt-6.1-sol")[1]


def test_a_query_through_an_api_says_dollars_and_their_day(run):
    line = "costs query --api claude-haiku-5-5 --shots 41"
    code, out, err = run(f"{line} --json")
    plain = json.loads(out)
    assert (code, plain["tokens"], plain["state"]) == (0, 4121, "unverified")
    assert plain["usd"] == pytest.approx(4121 * 0.1 / 1e6)
    assert plain["price_date"] == "2026-11-10"
    assert "claude-haiku-5-5 ($0.1/1M tokens) is unverified" in err
    code, out, err = run(f"{line} --cached --json")
    cached = json.loads(out)
    assert cached["usd_uncached"] / cached["usd"] == pytest.approx(8.16, abs=0.01)
    assert "caches are assumed from 1,024 tokens on" in err
    rare = json.loads(run(f"{line} --cached --arrivals {cached['pays_from_per_hour']} --json")[1])
    assert rare["usd"] == pytest.approx(plain["usd"])
    assert "too few for a cache" in run("costs query --api claude-haiku-5-5 --shots 1 --cached")[2]


def test_prices_are_renewed_in_their_file(run, tmp_path, monkeypatch):
    pytest.importorskip("genai_prices")
    file = tmp_path / "prices.csv"
    before = (data.ROOT / "prices.csv").read_text(encoding="utf-8")
    file.write_text(before.replace(",OpenAI,1M tokens,2,", ",OpenAI,1M tokens,9,"))
    monkeypatch.setattr(data, "ROOT", tmp_path)
    prices.all_prices.cache_clear()
    try:
        code, out, _ = run("costs prices gpt-6.1-sol --refresh --released 2026-11-10 --json")
        assert code == 0
        assert json.loads(out)["prices"][0]["usd"] != 9
        renewed = file.read_text(encoding="utf-8")
        assert len(renewed.splitlines()) >= len(before.splitlines())
        assert run("costs prices gpt-6.1-sun --refresh --released 2026-11-10")[0] == 2
        assert file.read_text(encoding="utf-8") == renewed
    finally:
        prices.all_prices.cache_clear()


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
        ("costs query --shots 3", "either --arch, for FLOPs, or --api"),
        ("costs query --arch t0-3b --api gpt-6.1-sol", "either --arch, for FLOPs, or --api"),
        ("costs query --api gpt-6.1-sun", "did you mean 'gpt-6.1-sol'"),
        ("costs query --api gpt-6.1-sol --cached --arrivals nan", "--arrivals"),
        ("costs query --arch t0-3b --arrivals 3", "--arrivals"),
        ("costs query --arch t0-3b --output-tokens 3", "--output-tokens"),
        ("costs prices gpt-6.1-sun", "did you mean 'gpt-6.1-sol'"),
        ("costs prices --released 2026-11-10", "--released"),
        ("costs prices --refresh --released 2026-13-10", "--released: '2026-13-10'"),
        ("costs prices --refresh --released 9999-01-01", "--released: 9999-01-01"),
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
