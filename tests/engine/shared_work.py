"""A training and its answers, as one process or several do them; run by test_processes."""

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from frugal import tasks
from frugal.engine import backbones, processes
from frugal.fewshot import evaluate, tfew


def work(out):
    """Batches of 5 are shared unequally by two processes, and of 1, the first has no part."""
    task, seen = tasks.load("counting"), {}
    for size in (1, 5):
        backbone = backbones.load("tiny-causal", device="cpu")
        recipe = tfew.Recipe(steps=6, batch_size=size, lr=3e-2, micro_batch=2)
        trained = tfew.train(
            backbone, task.wordings(8, 0), recipe, checkpoint=out / f"run{size}", every=2
        )
        result, scores = evaluate.rank(backbone, task, task.test(9))
        few, _ = evaluate.rank(backbone, task, task.test(1))
        seen[size] = {
            "loss": trained.loss, "tokens": trained.tokens_computed, "accuracy": result.accuracy,
            "examples": result.examples, "one": few.accuracy, "logp": scores.sum_logp.tolist(),
            "predictions": scores.predictions.tolist(),
        }  # fmt: skip
        vectors = {name: p.detach().clone() for name, p in trained.tuned.named_parameters()}
        save_file(vectors, out / f"{size}-{processes.number()}.safetensors")
    (out / f"{processes.number()}.json").write_text(json.dumps([processes.count(), seen]))


if __name__ == "__main__":
    processes.join()
    work(Path(sys.argv[1]))
    processes.leave()
