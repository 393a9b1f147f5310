"""This project beside its peers, on the same work, in one run: `make bench`.

Each work alternates its sides and compares their medians, so that a slow minute of the machine
slows all. The peers are at their best: Hugging Face `peft` with one padded row per choice and the
same loss, and lm-eval's log-likelihoods at batch 16, in float32 and bfloat16, of which the faster
counts. Ours is in float32, bfloat16 and int8. The weights are real, the 77-choice task is made up.
For encoder–decoders the peers are the two ways below packing: the prompt read once per choice, and
read once with its states repeated (T-Few's released code); random weights of T5-small's size, and
as goal what the FLOPs say.

It goes on where it was killed: `measure` says what is measured again.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import contrastive
import measure
import roofline
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from measure import FLOAT, OWN, Answer, Row, Work
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration
from transformers.utils import logging

import peft as hf
import spaces
from frugal import peft, tasks
from frugal.costs import arch, flops
from frugal.engine import artifacts, backbones
from frugal.fewshot import choices, encoding, evaluate, icl, losses, packing, passes
from frugal.fewshot.choices import ChoiceScores
from frugal.kernels import precision
from frugal.tasks import Example

OUT = Path(__file__).parents[2] / "data" / "results" / "bench.csv"
THREADS = 2  # where OMP_NUM_THREADS says nothing


def many_choices(count: int, examples: int) -> list[Example]:
    """Utterances with `count` intents to choose from, such as RAFT's Banking-77 has."""
    verbs = ["activate", "cancel", "change", "check", "dispute", "explain", "find"]
    things = [
        "my card",
        "a transfer",
        "the exchange rate",
        "a refund",
        "my pin code",
        "the fee",
        "a top up",
        "my identity",
        "the balance",
        "a direct debit",
        "my account",
    ]
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


def step(tuned: Any, forwards: Sequence[Callable[[], ChoiceScores]]) -> Answer:
    """T-Few's loss over batches of as many examples each, and the gradient of what is trained."""
    total = 0.0
    for forward in forwards:
        scores = forward()
        loss = torch.stack([loss(scores) for loss in losses.LOSSES.values()]).sum() / len(forwards)
        loss.backward()
        total += loss.item()
    trained = [p for p in tuned.parameters() if p.grad is not None]
    gradient = torch.cat([p.grad.flatten() for p in trained])
    for p in trained:
        p.grad = None
    return Answer(torch.tensor(total), gradient)


def smollm2(kind: str) -> backbones.Backbone:
    return backbones.load("smollm2-135m", device="cpu", precision=kind)


def our_step(backbone: backbones.Backbone, examples: Sequence[Example]) -> Callable[[], Answer]:
    """One (IA)³ training step, forward and backward, of the packed examples."""
    tuned = peft.attach(backbone.model, "ia3")

    def ours() -> Answer:
        return step(
            tuned, [lambda: choices.together(backbone, encoding.encode(backbone, examples))]
        )

    return ours


def hf_step(kind: str, examples: Sequence[Example], at_once: int) -> Callable[[], Answer]:
    """The same with HF peft, of so many examples `at_once`: their gradients add up."""
    other = smollm2(kind)
    wrapped = hf.get_peft_model(
        other.model,
        hf.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
    )
    theirs = backbones.Backbone(other.name, wrapped.base_model.model, other.tokenizer, "causal")
    parts = [examples[i : i + at_once] for i in range(0, len(examples), at_once)]

    def plain() -> Answer:
        return step(wrapped, [lambda part=part: plain_scores(theirs, part) for part in parts])

    return plain


def training(
    name: str, examples: Sequence[Example], goal: float, repeats: int, at_once: int = 8
) -> list[Row]:
    """One (IA)³ training step, ours against HF peft's."""
    return measure.compare(
        name,
        "HF peft",
        {kind: hf_step(kind, examples, at_once) for kind in precision.FLOATS},
        {kind: our_step(smollm2(kind), examples) for kind in precision.NAMES},
        {("HF peft", "fastest"): goal, (OWN, "int8"): 2.5},
        repeats,
        1e-4,
    )


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


def reading(name: str, examples: Sequence[Example], repeats: int) -> list[Row]:
    """One (IA)³ step of an encoder–decoder, packed, against each of the two plain ways."""
    backbone = t5_small()
    shape = arch.from_config(backbone.model.config)
    packed = evaluate.query_flops(backbone, examples)

    tuned = peft.attach(backbone.model, "ia3")

    def ours() -> Answer:
        return step(
            tuned, [lambda: choices.together(backbone, encoding.encode(backbone, examples))]
        )

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

        def theirs(read_once: bool = read_once) -> Answer:
            return step(tuned, [lambda: plain_scores(backbone, examples, read_once=read_once)])

        goal = {(peer, FLOAT): plain / packed}
        rows += measure.compare(
            name, peer, {FLOAT: theirs}, {FLOAT: ours}, goal, repeats, tolerance=1e-4
        )
    return rows


def our_ranking(backbone: backbones.Backbone) -> Callable[[Sequence[Example]], Answer]:
    def ours(examples: Sequence[Example]) -> Answer:
        scores = choices.score(backbone, examples)
        return Answer(scores.sum_logp, predictions=scores.predictions)

    return ours


def lm_eval_ranking(kind: str) -> Callable[[Sequence[Example]], Answer]:
    backbone = smollm2(kind)
    lm = HFLM(
        pretrained=backbone.model,
        tokenizer=backbone.tokenizer,
        batch_size=16,
        device="cpu",
        max_length=backbone.max_tokens,
    )

    def theirs(examples: Sequence[Example]) -> Answer:
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=(e.prompt, c), idx=0)
            for e in examples
            for c in e.choices
        ]
        with torch.inference_mode():
            found = lm.loglikelihood(requests, disable_tqdm=True)
        return Answer(torch.tensor([logp for logp, _ in found]))

    return theirs


def ranking(name: str, examples: Sequence[Example], goal: float, repeats: int) -> list[Row]:
    """Scores of all choices, ours against lm-eval's log-likelihoods."""
    theirs = {kind: lm_eval_ranking(kind) for kind in precision.FLOATS}
    ours = {kind: our_ranking(smollm2(kind)) for kind in precision.NAMES}
    if repeats == 1:  # no turn that only warms up
        for rank in (*theirs.values(), *ours.values()):
            rank(examples[:4])
    sides = ({kind: partial(rank, examples) for kind, rank in s.items()} for s in (theirs, ours))
    goals = {("lm-eval", "fastest"): goal, (OWN, "int8"): 2.5}
    return measure.compare(name, "lm-eval", *sides, goals, repeats, 1e-3)


def mixing(name: str, method: str, count: int, width: int, repeats: int) -> list[Row]:
    """A batch whose rows belong to different tasks, against a batch for each task."""
    texts = [e.prompt for e in tasks.load("movie-reviews").test(count)]

    def sides(kind: str) -> tuple[Callable[[], Answer], Callable[[], Answer]]:
        backbone = smollm2(kind)
        folders = {}
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as root:
            for i in range(count):
                tuned = peft.attach(backbone.model, method)
                with torch.no_grad():
                    for p in tuned.parameters():
                        p.add_(0.02 * torch.randn(p.shape))
                folders[f"task {i}"] = tuned.save(Path(root) / str(i))
                tuned.detach()
            mixed = peft.mixed(backbone.model, folders)
        ids = torch.tensor([row[:width] for row in backbone.tokenizer(texts)["input_ids"]])
        names = list(folders)

        @torch.inference_mode()
        def ours() -> Answer:
            with mixed.tasks(names):
                return Answer(backbone.model(input_ids=ids).logits)

        @torch.inference_mode()
        def one_by_one() -> Answer:
            found = []
            for i, name in enumerate(names):
                with mixed.tasks([name]):
                    found.append(backbone.model(input_ids=ids[i : i + 1]).logits)
            return Answer(torch.cat(found))

        return ours, one_by_one

    both = {kind: sides(kind) for kind in (FLOAT, "int8")}
    ours, theirs = ({kind: pair[side] for kind, pair in both.items()} for side in (0, 1))
    goals = {("in turn", "fastest"): 2.0}
    return measure.compare(name, "in turn", theirs, ours, goals, repeats, 1e-3)


def step_share(name: str, examples: Sequence[Example], repeats: int) -> list[Row]:
    """Of a step's time, how much its matrix products take alone."""
    found = {kind: smollm2(kind) for kind in precision.NAMES}
    runs = {kind: (b.model, our_step(b, examples)) for kind, b in found.items()}
    return roofline.shares(name, runs, {FLOAT: 0.8, "int8": 0.5}, repeats)


def ranking_share(name: str, examples: Sequence[Example], repeats: int) -> list[Row]:
    """As `step_share`, of ranking."""
    runs = {}
    for kind in precision.NAMES:
        backbone = smollm2(kind)
        runs[kind] = backbone.model, partial(our_ranking(backbone), examples)
    return roofline.shares(name, runs, {}, repeats)


def resident(name: str) -> list[Row]:
    """Bytes of all parameters and buffers, what is shared once: a ratio of int8 to float32."""

    def size(kind: str) -> int:
        model = smollm2(kind).model
        return sum(t.nbytes for t in (*model.parameters(), *model.buffers()))

    ratio = round(size("int8") / size(FLOAT), 3)
    row = {"work": name, "peer": OWN, "peer_precision": FLOAT, "precision": "int8"}
    return [row | {"ratio": ratio, "goal": 0.45, "repeats": 1}]


def works(quick: bool) -> list[Work]:
    reviews = tasks.load("movie-reviews")
    # BIG-bench is 358 MB; without it the same shape is made up.
    fetched = artifacts.state("bigbench") == "ok"
    utterances = tasks.load("intent-recognition").test(200) if fetched else many_choices(7, 200)
    n, often, seldom = (20, 1, 1) if quick else (200, 5, 3)
    two, seven, many = (
        ("8 movie reviews × 2 choices", reviews.draw(8, 0)),
        ("8 utterances × 7 choices", utterances[:8]),
        ("4 utterances × 77 choices", many_choices(77, 4)),
    )
    shots = icl.prompted(reviews.test(n), reviews.draw(16, 0))
    found: list[Work] = []

    def add(name: str, rows: Callable[..., list[Row]], *arguments: Any) -> None:
        found.append(Work(name, partial(rows, name, *arguments)))

    add("resident weights of SmolLM2-135M, int8 of float32 (at most)", resident)
    add(f"(IA)³ step, {two[0]}", training, two[1], 5, often)
    add(f"(IA)³ step, {seven[0]}", training, seven[1], 12, often)
    # All at once, it would take 22 GB: what is held for an example is as much as is held for 77.
    add(f"(IA)³ step, {many[0]}", training, many[1], 40, seldom, 1)
    for shape, examples in (two, seven, many):
        add(f"(IA)³ step, {shape}: share of the matrix products", step_share, examples, often)
    ranked = f"rank {n} movie reviews × 2 choices"
    add(ranked, ranking, reviews.test(n), 2, seldom)
    add(f"rank {n} utterances × 7 choices", ranking, utterances[:n], 6.5, seldom)
    add(f"rank {n} movie reviews, 16 shots", ranking, shots, 28, 1)
    add(f"{ranked}: share of the matrix products", ranking_share, reviews.test(n), seldom)
    for method in ("ia3", "lora"):
        add(f"16 rows of 16 tasks, {method}, 17 tokens", mixing, method, 16, 17, often)
    found += spaces.works(quick)
    found += contrastive.works(quick)
    for shape, examples in (two, seven, many):
        add(f"T5 (IA)³ step, {shape}", reading, examples, seldom)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer examples, nothing written")
    parser.add_argument("--only", default="", metavar="TEXT", help="works with TEXT in their name")
    parser.add_argument("--again", action="store_true", help="also what was measured today")
    asked = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", THREADS)))
    out = None if asked.quick else OUT
    measure.run(works(asked.quick), out, only=asked.only, again=asked.again)


if __name__ == "__main__":
    main()
