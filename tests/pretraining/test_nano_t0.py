"""The shipped nano-t0: its size, its counts, and the numbers of its card on a fixed sample."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from frugal import data, peft, tasks
from frugal.costs import arch
from frugal.engine import artifacts, backbones, nano
from frugal.fewshot import choices, encoding, evaluate, packing, passes
from frugal.pretraining import mixture

FOLDER = data.ROOT / "checkpoints" / "nano-t0"
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def shipped():
    return backbones.load("nano-t0", device="cpu")


def card():
    with (FOLDER / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_shipped_is_ours_alone_and_small():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".csv", ".md"}


def test_parameters_and_flops_are_the_closed_forms(shipped):
    a = arch.from_config(shipped.model.config)
    assert (a.kind, a.layers, a.decoder_layers) == ("encoder-decoder", 6, nano.DECODER_LAYERS)
    assert a.params == sum(p.numel() for p in shipped.model.parameters())
    example = tasks.load("movie-reviews").test(1)
    model = shipped.model
    trees = [packing.tree(e) for e in encoding.encode(shipped, example)]
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the counter does not see a CPU's fused attention
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        choices.forward(shipped, packing.pack(trees, packing.layout(trees), shipped.device))
    model.set_attn_implementation(before)
    assert counter.get_total_flops() == evaluate.query_flops(shipped, example)


@pytest.mark.parametrize(
    "row", [r for r in card() if r["method"] == "zero-shot"], ids=lambda r: r["task"]
)
def test_zero_shot_accuracy_is_what_the_card_says(shipped, row):
    if tasks.defined(row["task"]).source.bigbench and artifacts.state("bigbench") != "ok":
        pytest.skip("BIG-bench (358 MB) was not fetched; movie-reviews is always checked")
    task = tasks.load(row["task"])
    scores = choices.score(shipped, task.test(int(row["examples"])))
    assert scores.accuracy == pytest.approx(float(row["accuracy"]), abs=0.01)


def test_packed_scores_are_those_of_one_row_per_choice(shipped):
    examples = tasks.load("movie-reviews").test(6)
    encoded = encoding.encode(shipped, examples)
    with torch.inference_mode():
        plain = passes.one_row_per_choice(shipped, encoded)
    torch.testing.assert_close(
        choices.score(shipped, examples).token_logp, plain, atol=1e-4, rtol=0
    )


def test_vectors_fit_the_model_and_train_nothing_else(shipped):
    tuned = peft.load(shipped.model, FOLDER / "ia3")
    # 6 layers that read (d_k + d_v + d_ff), 2 that answer (2 d_k + 2 d_v + d_ff)
    assert tuned.trainable_params == 6 * (384 + 384 + 1536) + 2 * (4 * 384 + 1536)
    tuned.detach()


def test_nothing_that_is_kept_for_testing_is_in_the_mixture():
    kept = {
        e.prompt.removeprefix("Review: ").removesuffix("\nSentiment:")
        for name in ("movie-reviews", "amazon-reviews", "tweets", "nyt-editorials")
        for e in tasks.load(name).test()
    }
    kept = {text for text in kept if len(text) > 40}  # "nightmare." occurs in two corpora
    for source in mixture.load().components:
        for record in source.records:
            assert kept.isdisjoint(record.fields.values()), source.name


def test_a_short_pretraining_is_killed_goes_on_and_can_be_loaded(tmp_path):
    """What `make pretrain STEPS=50` runs."""
    out = tmp_path / "nano"
    command = [sys.executable, "-m", "frugal", "pretrain", "--out", str(out), "--steps", "50"]
    first = subprocess.Popen(command)
    while not (out / "training.safetensors").is_file():
        assert first.poll() is None
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (out / nano.WEIGHTS).exists()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["steps"], found["folder"]) == (50, str(out))
    about = json.loads((out / "about.json").read_text())
    assert about["loss"] == [pytest.approx(about["loss"][0])]
    assert about["loss"][0] < 6
    loaded = backbones.load(str(out), device="cpu")
    assert choices.score(loaded, tasks.load("movie-reviews").test(4)).examples == 4
