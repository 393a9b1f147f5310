"""Shared: an attempt at a file of thirty lines, with tiny models."""

import json

import pytest

from frugal import tasks
from frugal.choice import trials
from frugal.encoders import classifier, contrastive
from frugal.engine import backbones
from frugal.fewshot import tfew

SMALL = classifier.Recipe(epochs=0, least_steps=2, batch_size=4, lr=1e-2)
TUNING = tfew.Recipe(steps=2, batch_size=4)


@pytest.fixture
def attempt(tmp_path, tiny):
    words = ["rain", "sun", "wind", "fog", "snow", "hail"]
    lines = [
        {
            "prompt": f"Weather: {words[i % 6]} {i}\nMood:",
            "choices": [" good", " bad"],
            "label": i % 2,
        }
        for i in range(30)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    how = trials.Ways(
        recipe=TUNING,
        lora=TUNING.model_copy(update={"method": "lora"}),
        icl_shots=4,
        small=SMALL,
        design=SMALL,
        share=0.2,
        setfit=contrastive.Recipe(rounds=1, batch_size=4),
    )
    encoder = backbones.load("tiny-encoder", device="cpu")
    return trials.Attempt.on(tasks.load(path), tiny, encoder, how, labels=12)
