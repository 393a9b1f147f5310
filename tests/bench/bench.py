"""This project beside its peers, on the same work, in one run: `make bench`.

Each row alternates the two sides and compares their medians, so that a slow minute of the machine
slows both. The peers: Hugging Face `peft` with one padded row per choice and the same loss, and
lm-eval's log-likelihoods at batch 16. The weights are real, the 77-choice task is made up. For
encoder–decoders the peers are the two ways below packing: the prompt read once per choice, and read
once with its states repeated (T-Few's released code); random weights of T5-small's size, and as
goal what the FLOPs say.
"""

import argparse
import datetime
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

import peft as hf
import spaces
from frugal import peft, tasks
from frugal.costs import arch, flops
from frugal.engine import artifacts, backbones
from frugal.fewshot import choices, encoding, evaluate, icl, losses, packing, passes
from frugal.fewshot.choices import ChoiceScores
from frugal.tasks import Example

OUT = Path(__file__).parents[2] / "data" / "results" / "bench.csv"


def many_choices(count: int, examples: int) -> list[Example]:
    """Utterances with `count` intents to choose from, such as RAFT's Banking-77 has."""
    verbs = ["activate", "cancel", "change", "check", "dispute", "explain", "find"]
    things = [
        "my card", "a transfer", "the exchange rate", "a refund", "my pin code", "the fee",
        "a top up", "my identity", "the balance", "a direct debit", "my account",
    ]  # fmt: skip
    labels = [f" {verb} {thing}" for verb in verbs for thing in things][:count]
    return [
        Example(
            prompt=f"Utterance: I have been trying to {labels[i * 5 % count].strip()} since "
            f"{i + 2} days ago and it still does not work, can you help me?\nIntent:",
            choices=tuple(labels),
            label=i * 5 % count,
        )
        for i in range(examples)
    ]


def plain_scores(
    backbone: Any, examples: Sequence[Example], *, read_once: bool = False
) -> ChoiceScores:
    """The usual way: one padded row per choice, the vocabulary at every position."""
    encoded = encoding.encode(backbone, examples)
    trees = [packing.tree(e) for e in encoded]
    choice, example, correct = packing.numbering(trees)
    logp = passes.one_row_per_choice(backbone, encoded, read_once=read_once)
    return ChoiceScores(logp, choice, example, correct, tokens_computed=0)


def step(tuned: Any, forward: Callable[[], ChoiceScores]) -> float:
    loss = torch.stack([loss(s) for s in [forward()] for loss in losses.LOSSES.values()]).sum()
    loss.backward()
    for p in tuned.parameters():
        p.grad = None
    return loss.item()


def training(
    name: str, examples: Sequence[Example], goal: float, repeats: int = 5
) -> dict[str, Any]:
    """One (IA)³ training step, forward and backward, ours against HF peft's."""
    mine = backbones.load("smollm2-135m", device="cpu")
    tuned = peft.attach(mine.model, "ia3")
    other = backbones.load("smollm2-135m", device="cpu")
    wrapped = hf.get_peft_model(
        other.model,
        hf.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
    )
    theirs = backbones.Backbone(other.name, wrapped.base_model.model, other.tokenizer, "causal")

    def ours() -> float:
        trees = [packing.tree(e) for e in encoding.encode(mine, examples)]
        return step(
            tuned, lambda: choices.forward(mine, packing.pack(trees, packing.layout(trees)))
        )

    def plain() -> float:
        return step(
            wrapped,
            lambda: plain_scores(theirs, examples),
        )

    return compared(f"(IA)³ step, {name}", "HF peft", ours, plain, goal, 1e-4, repeats)


def first_in_a_process(
    name: str, examples: Sequence[Example], goal: float
) -> Iterator[dict[str, Any]]:
    """`training`, once, in a process of its own: the peer takes 22 GB, and may be killed for it."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            yield pool.submit(training, name, examples, goal, 1).result()
        except BrokenProcessPool:
            print(f"(IA)³ step, {name}: not measured, the peer needs more memory than there is")


def t5_small() -> backbones.Backbone:
    """Random weights of T5-small's size, behind MiniLM's word pieces."""
    torch.manual_seed(0)
    config = T5Config(d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
    config.decoder_start_token_id = 0
    tokenizer = AutoTokenizer.from_pretrained(
        artifacts.member("minilm-l6", "model/config.json").parent
    )
    model = T5ForConditionalGeneration(config).eval()
    return backbones.Backbone("t5-small's size", model, tokenizer, "encoder-decoder")


def reading(name: str, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """One (IA)³ step of an encoder–decoder, packed, against each of the two plain ways."""
    backbone = t5_small()
    tuned = peft.attach(backbone.model, "ia3")
    shape = arch.from_config(backbone.model.config)
    packed = evaluate.query_flops(backbone, examples)

    def ours() -> float:
        trees = [packing.tree(e) for e in encoding.encode(backbone, examples)]
        batch = packing.pack(trees, packing.layout(trees))
        return step(tuned, lambda: choices.forward(backbone, batch))

    rows = []
    for peer, read_once in (("read per choice", False), ("states repeated", True)):
        plain = statistics.fmean(
            sum(
                flops.one_row_per_choice(
                    shape,
                    prompt_tokens=len(e.read),
                    choice_tokens=[len(s) - 1 for s in e.sequences],
                    read_once=read_once,
                ).values()
            )
            for e in encoding.encode(backbone, examples)
        )

        def theirs(read_once: bool = read_once) -> float:
            return step(tuned, lambda: plain_scores(backbone, examples, read_once=read_once))

        rows.append(compared(f"T5 (IA)³ step, {name}", peer, ours, theirs, plain / packed, 1e-4, 3))
    return rows


def ranking(name: str, examples: Sequence[Example], peer: float, repeats: int) -> dict[str, Any]:
    """Scores of all choices, ours against lm-eval's log-likelihoods."""
    backbone = backbones.load("smollm2-135m", device="cpu")
    lm = HFLM(
        pretrained=backbone.model,
        tokenizer=backbone.tokenizer,
        batch_size=16,
        device="cpu",
        max_length=backbone.max_tokens,
    )

    def ours() -> torch.Tensor:
        return choices.score(backbone, examples).sum_logp

    def theirs() -> torch.Tensor:
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=(e.prompt, c), idx=0)
            for e in examples
            for c in e.choices
        ]
        with torch.inference_mode():
            found = lm.loglikelihood(requests, disable_tqdm=True)
        return torch.tensor([logp for logp, _ in found])

    return compared(f"rank {name}", "lm-eval", ours, theirs, peer, 1e-3, repeats)


def mixing(method: str, count: int, goal: float) -> dict[str, Any]:
    """A batch whose rows belong to different tasks, against a batch for each task."""
    backbone = backbones.load("smollm2-135m", device="cpu")
    folders = {}
    with tempfile.TemporaryDirectory() as root:
        for i in range(count):
            tuned = peft.attach(backbone.model, method)
            with torch.no_grad():
                for p in tuned.parameters():
                    p.add_(0.02 * torch.randn_like(p))
            folders[f"task {i}"] = tuned.save(Path(root) / str(i))
            tuned.detach()
        mixed = peft.mixed(backbone.model, folders)
    texts = [e.prompt for e in tasks.load("movie-reviews").test(count)]
    rows = [backbone.tokenizer(t, return_tensors="pt")["input_ids"][:, :24] for t in texts]
    width = min(r.shape[1] for r in rows)
    ids = torch.cat([r[:, :width] for r in rows])
    names = list(folders)

    @torch.inference_mode()
    def ours() -> torch.Tensor:
        with mixed.tasks(names):
            return backbone.model(input_ids=ids).logits

    @torch.inference_mode()
    def one_by_one() -> torch.Tensor:
        found = []
        for i, name in enumerate(names):
            with mixed.tasks([name]):
                found.append(backbone.model(input_ids=ids[i : i + 1]).logits)
        return torch.cat(found)

    work = f"{count} rows of {count} tasks, {method}, {width} tokens"
    return compared(work, "in turn", ours, one_by_one, goal, 1e-3)


def compared(
    work: str,
    peer: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    goal: float,
    tolerance: float,
    repeats: int = 5,
) -> dict[str, Any]:
    """Medians of alternating runs; the first of each must agree, and only warms up if it can."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1 if repeats > 1 else 1):
        found = []
        for side, run in zip(seconds, (ours, theirs), strict=True):
            started = time.perf_counter()
            found.append(torch.as_tensor(run()))
            side.append(time.perf_counter() - started)
        if not turn:
            a, b = found
            gap = (a - b).abs().max()
            assert torch.allclose(a, b, rtol=tolerance, atol=tolerance), (work, gap)
    mine, others = (statistics.median(side[-repeats:]) for side in seconds)
    row = {
        "work": work, "peer": peer, "peer_s": others, "ours_s": mine, "ratio": others / mine,
        "goal": goal, "repeats": repeats,
    }  # fmt: skip
    print(
        f"{work:44s} {peer:15s} {others:8.2f} s   ours {mine:7.2f} s   {others / mine:5.1f}×"
        f"   (goal {goal:.3g}×)",
        flush=True,
    )
    return row


def work(quick: bool) -> Iterator[dict[str, Any]]:
    """A row for each piece of work, as soon as it is measured."""
    reviews = tasks.load("movie-reviews")
    # BIG-bench is 358 MB; without it the same shape is made up.
    fetched = artifacts.state("bigbench") == "ok"
    utterances = tasks.load("intent-recognition").test(200) if fetched else many_choices(7, 200)
    seven = "utterances × 7 choices"
    n, repeats = (20, 1) if quick else (200, 3)
    shots = icl.prompted(reviews.test(n), reviews.draw(16, 0))
    yield from first_in_a_process("4 utterances × 77 choices", many_choices(77, 4), 30)
    yield training("8 movie reviews × 2 choices", reviews.draw(8, 0), 3)
    yield training(f"8 {seven}", utterances[:8], 8)
    yield mixing("ia3", 16, 2)
    yield mixing("lora", 16, 2)
    yield ranking(f"{n} movie reviews × 2 choices", reviews.test(n), 2, repeats)
    yield ranking(f"{n} {seven}", utterances[:n], 5, repeats)
    yield ranking(f"{n} movie reviews, 16 shots", shots, 20, 1)
    yield from reading("8 movie reviews × 2 choices", reviews.draw(8, 0))
    yield from reading(f"8 {seven}", utterances[:8])
    yield from spaces.rows(compared, quick)
    yield from reading("4 utterances × 77 choices", many_choices(77, 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer examples, nothing written")
    quick = parser.parse_args().quick
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    rows = []
    for row in work(quick):
        rows.append(row)
        if not quick:  # after every row: what was measured outlives what comes after it
            table = pd.DataFrame(rows).assign(
                date=datetime.date.today().isoformat(), machine=machine, torch=torch.__version__
            )
            OUT.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(OUT, index=False, float_format="%.3f")


if __name__ == "__main__":
    main()
