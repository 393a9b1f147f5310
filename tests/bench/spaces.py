"""Chapter 4's rows of `make bench`: a search's runs beside Hugging Face `peft` and `Trainer`, and
what it saves to keep the states of frozen layers.

Each side is one whole run on MiniLM: 200 movie reviews, three epochs, 400 reviews scored. Each run
of the peer loads its model, as `peft` changes it in place; ours attaches to one that is loaded. The
peer runs in float32, with bfloat16 weights, and with float32 weights under bfloat16 autocast.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import measure
import torch
from datasets import Dataset
from measure import FLOAT, Answer, Row, Work
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

import peft as hf
from frugal.encoders import classifier, schedule
from frugal.engine import artifacts, backbones
from frugal.spaces import build
from frugal.tasks import texts

RECIPE = classifier.Recipe(epochs=3, batch_size=16, lr=1e-3, max_tokens=64)
FULL = RECIPE.model_copy(update={"lr": 5e-5})
UPPER = "G1[1]:- | G2[2-3]:- | G3[4-5]:- | G4[6]:L"
PEERS = ("float32", "bfloat16", "bfloat16 autocast")  # in how many ways `Trainer` runs


def works(quick: bool) -> list[Work]:
    labels, limit, repeats = (32, 32, 1) if quick else (200, 400, 3)
    task = texts.load("movie-reviews", labels, limit, 0)
    found = [
        Work(name, lambda name=name, design=design: beside(name, design, task, repeats))
        for name, design in (
            ("run, LoRA on all layers of MiniLM", "L"),
            ("run, LoRA on the last layer of MiniLM", UPPER),
            ("run, the small classifier, all of MiniLM", None),
        )
    ]
    return found + [
        Work(name, lambda name=name, design=design: kept(name, design, task, repeats))
        for name, design in (
            (
                "run, two groups tuned, frozen states kept",
                "G1[1]:- | G2[2-3]:- | G3[4-5]:A,P | G4[6]:P,L",
            ),
            (
                "run, last group tuned, frozen states kept",
                "G1[1]:- | G2[2-3]:- | G3[4-5]:- | G4[6]:P,B,L",
            ),
        )
    ]


def beside(name: str, design: str | None, task: texts.TextTask, repeats: int) -> list[Row]:
    """A run of ours against HF Trainer's; all weights are trained without a design.

    Those cannot be int8, nor learn in bfloat16 without float32 copies, which autocast keeps.
    """
    kinds = (FLOAT, "int8") if design else (FLOAT, PEERS[-1])

    def ours(kind: str) -> Callable[[], Answer]:
        half = kind == PEERS[-1]
        minilm = backbones.load("minilm-l6", device="cpu", precision=FLOAT if half else kind)

        def run() -> Answer:
            part = build.Part(build.sized(minilm.model, design)) if design else "full"
            learning = {"precision": "bfloat16" if half else FLOAT}
            recipe = RECIPE if design else FULL.model_copy(update=learning)
            model = classifier.new(minilm, task.classes, part, max_tokens=recipe.max_tokens)
            goals = torch.tensor(task.train_labels).long()
            fitted = classifier.fit(model, task.train, goals, recipe)
            said, _ = model.outputs(task.test)
            trained = sum(p.numel() for p in model.trained().values()) if design else 0
            return Answer(torch.tensor([trained, len(fitted.loss)]), predictions=said.argmax(1))

        return run

    return measure.compare(
        name,
        "HF Trainer",
        {kind: trainer(kind, design, task) for kind in PEERS if design or kind != "bfloat16"},
        {kind: ours(kind) for kind in kinds},
        {("HF Trainer", "fastest"): 1.5},
        repeats,
        tolerance=0,
    )


def kept(name: str, design: str, task: texts.TextTask, repeats: int) -> list[Row]:
    """A run that keeps the frozen layers' states against one that computes them at every sight."""
    minilm = backbones.load("minilm-l6", device="cpu")

    def losses(keep: bool) -> Answer:
        part = build.Part(build.sized(minilm.model, design))
        model = classifier.new(minilm, task.classes, part, max_tokens=RECIPE.max_tokens)
        room, schedule.KEPT_BYTES = schedule.KEPT_BYTES, schedule.KEPT_BYTES * keep
        try:
            goals = torch.tensor(task.train_labels).long()
            return Answer(torch.tensor(classifier.fit(model, task.train, goals, RECIPE).loss))
        finally:
            schedule.KEPT_BYTES = room

    peer = "computed anew"
    sides = ({FLOAT: lambda: losses(False)}, {FLOAT: lambda: losses(True)})
    return measure.compare(name, peer, *sides, {(peer, FLOAT): 1}, repeats, tolerance=0)


def lora(model: Any, sized: Any) -> Any:
    """`peft`'s LoRA of the sizes of a design."""
    layers = sorted(layer - 1 for layer in sized.sizes)
    ranks = {str(layer - 1): of["L"] for layer, of in sized.sizes.items()}
    config = hf.LoraConfig(
        task_type="SEQ_CLS",
        target_modules=["query", "value"],
        layers_to_transform=layers,
        layers_pattern="layer",
        r=max(ranks.values()),
        rank_pattern={rf"layer\.{n}\.attention\.self\.(query|value)": r for n, r in ranks.items()},
    )
    return hf.get_peft_model(model, config)


def trainer(kind: str, design: str | None, task: texts.TextTask) -> Callable[[], Answer]:
    """The same run as one would write it; trained parameters, head included, and steps."""
    folder = artifacts.member("minilm-l6", "model/config.json").parent
    minilm = backbones.load("minilm-l6", device="cpu")
    sized = build.sized(minilm.model, design) if design else None
    recipe = RECIPE if design else FULL
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32

    def encoded(texts: list[str], labels: list[float]) -> Dataset:
        ids = minilm.tokenizer(texts, truncation=True, max_length=recipe.max_tokens)
        return Dataset.from_dict({**ids, "labels": [int(label) for label in labels]})

    def run() -> Answer:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=task.classes, dtype=dtype
        )
        model = lora(model, sized) if sized else model
        with tempfile.TemporaryDirectory() as out:
            arguments = TrainingArguments(
                output_dir=out,
                num_train_epochs=recipe.epochs,
                per_device_train_batch_size=recipe.batch_size,
                per_device_eval_batch_size=128,
                learning_rate=recipe.lr,
                warmup_steps=recipe.warmup,
                weight_decay=0.0,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                bf16=kind == "bfloat16 autocast",
            )
            runs = Trainer(
                model=model,
                args=arguments,
                train_dataset=encoded(task.train, task.train_labels),
                data_collator=DataCollatorWithPadding(minilm.tokenizer),
            )
            runs.remove_callback(PrinterCallback)
            runs.train()
            runs.predict(encoded(task.test, task.test_labels))
            # Without a design its pooler is trained as well.
            own = [p for p in model.parameters() if p.requires_grad] if sized else []
            trained = sum(p.numel() for p in own)
            return Answer(torch.tensor([trained, runs.state.global_step]))

    return run
