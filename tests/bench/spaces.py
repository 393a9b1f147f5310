"""Chapter 4's rows of `make bench`: a search's runs beside Hugging Face `peft` and `Trainer`, and
what it saves to keep the states of frozen layers.

Each side is one whole run on MiniLM: 200 movie reviews, three epochs, 400 reviews scored. Each run
of the peer loads its model, as `peft` changes it in place; ours attaches to one that is loaded.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

import peft as hf
from frugal.encoders import classifier
from frugal.engine import artifacts, backbones
from frugal.spaces import build
from frugal.tasks import texts

RECIPE = classifier.Recipe(epochs=3, batch_size=16, lr=1e-3, max_tokens=64)
UPPER = "G1[1]:- | G2[2-3]:- | G3[4-5]:- | G4[6]:L"
Compared = Callable[..., dict[str, Any]]


def rows(compared: Compared, quick: bool) -> list[dict[str, Any]]:
    """One row a comparison, as `compared` of bench.py makes them."""
    labels, limit, repeats = (32, 32, 1) if quick else (200, 400, 3)
    task = texts.load("movie-reviews", labels, limit, 0)
    minilm = backbones.load("minilm-l6", device="cpu")

    def ours(design: str) -> torch.Tensor:
        part = build.Part(build.sized(minilm.model, design))
        model = classifier.new(minilm, task.classes, part, max_tokens=RECIPE.max_tokens)
        fitted = classifier.fit(model, task.train, torch.tensor(task.train_labels).long(), RECIPE)
        model.outputs(task.test)
        trained = sum(p.numel() for p in model.trained().values())
        return torch.tensor([trained, len(fitted.loss)])

    def losses(design: str, kept: bool) -> torch.Tensor:
        part = build.Part(build.sized(minilm.model, design))
        model = classifier.new(minilm, task.classes, part, max_tokens=RECIPE.max_tokens)
        room, classifier.KEPT_BYTES = classifier.KEPT_BYTES, classifier.KEPT_BYTES * kept
        try:
            goals = torch.tensor(task.train_labels).long()
            return torch.tensor(classifier.fit(model, task.train, goals, RECIPE).loss)
        finally:
            classifier.KEPT_BYTES = room

    beside = [
        compared(
            f"run, LoRA on {name} of MiniLM",
            "HF Trainer",
            lambda design=design: ours(design),
            lambda design=design: trainer(build.sized(minilm.model, design), task, minilm),
            2,
            0,
            repeats,
        )
        for name, design in (("all layers", "L"), ("the last layer", UPPER))
    ]
    return beside + [
        compared(
            f"run, {name} tuned, frozen states kept", "computed anew",
            lambda design=design: losses(design, True), lambda design=design: losses(design, False),
            1, 0, repeats,
        )
        for name, design in (
            ("two groups", "G1[1]:- | G2[2-3]:- | G3[4-5]:A,P | G4[6]:P,L"),
            ("last group", "G1[1]:- | G2[2-3]:- | G3[4-5]:- | G4[6]:P,B,L"),
        )
    ]  # fmt: skip


def trainer(sized: Any, task: texts.TextTask, minilm: backbones.Backbone) -> torch.Tensor:
    """The same run as one would write it; trained parameters, head included, and steps."""
    folder = artifacts.member("minilm-l6", "model/config.json").parent
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=task.classes)
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
    model = hf.get_peft_model(model, config)

    def encoded(texts: list[str], labels: list[float]) -> Dataset:
        ids = minilm.tokenizer(texts, truncation=True, max_length=RECIPE.max_tokens)
        return Dataset.from_dict({**ids, "labels": [int(label) for label in labels]})

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            num_train_epochs=RECIPE.epochs,
            per_device_train_batch_size=RECIPE.batch_size,
            per_device_eval_batch_size=128,
            learning_rate=RECIPE.lr,
            warmup_steps=RECIPE.warmup,
            weight_decay=0.0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        runs = Trainer(
            model=model,
            args=arguments,
            train_dataset=encoded(task.train, task.train_labels),
            data_collator=DataCollatorWithPadding(minilm.tokenizer),
        )
        runs.train()
        runs.predict(encoded(task.test, task.test_labels))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return torch.tensor([trained, runs.state.global_step])
