"""The long-running commands at smoke scale, and what each leaves that can be compared."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What differs from one computation of the same thing to the next.
MEASURED = {
    *("seconds", "train_seconds", "started", "host", "date", "machine", "usd_compute", "usd"),
    *("id", "seconds_of_last_call", "output", "store", "adapter", "out", "folder"),
}


def _nothing(folder: Path) -> dict[str, bytes]:
    return {}


@dataclass(frozen=True)
class Job:
    """A command in a folder.

    work:    does it, in a process of its own whose working directory is the folder
    result:  what an undisturbed run gives, without what differs from run to run
    lasting: files that, once there, must stay as they are
    shared:  whether two processes may do it at once
    """

    name: str
    work: Callable[[dict[str, str]], None]
    result: Callable[[Path], Any]
    lasting: Callable[[Path], dict[str, bytes]] = _nothing
    shared: bool = False


def frugal(*argv):
    """A command, as the console script runs it; its JSON stays in out.json."""
    from frugal import cli

    sys.argv = ["frugal", *map(str, argv)]
    cli.main()


def same(document):
    """JSON without what was measured."""
    if isinstance(document, dict):
        return {k: same(v) for k, v in document.items() if k not in MEASURED}
    return [same(v) for v in document] if isinstance(document, list) else document


def printed(folder):
    return same(json.loads((folder / "out.json").read_text()))


def tensors(file):
    """Names, kinds and bytes of a safetensors file's tensors."""
    from safetensors.torch import load

    found = load(file.read_bytes())
    return {n: [str(t.dtype), [*t.shape], t.flatten().tolist()] for n, t in sorted(found.items())}


def rows(file):
    with file.open(encoding="utf-8", newline="") as opened:
        return [same(row) for row in csv.DictReader(opened)]


def adapter(folder):
    return {
        file.name: tensors(file)
        for file in sorted((folder / "saved").glob("*adapter*.safetensors"))
    }


def results(folder):
    """Finished runs of a store, by path."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.glob("store/runs/*/result.json"))
    }


def store(folder):
    return {name: json.loads(content) for name, content in results(folder).items()}


def tfew(urls):
    frugal(*["tfew", "counting", "--preset", "smoke", "--steps", "60", "--save", "saved", "--json"])


def vectors(urls):
    frugal(
        *["vectors", "counting", "--preset", "smoke", "--steps", "60", "--save", "saved", "--json"]
    )


def figure2(urls):
    frugal(*["figure2", "--preset", "smoke", "--store", "store", "--out", "table.csv", "--json"])


def table1(urls):
    given = ["--way", "ia3", "--way", "zero-shot", "--precision", "float32"]
    place = ["--store", "store", "--out", "table.csv"]
    frugal(*["table1", "--preset", "smoke", *given, *place, "--json"])


def spaces(urls):
    frugal(
        *["spaces", "search", "--preset", "smoke", "--designs", "1", "--store", "store", "--json"]
    )


def study(urls):
    words = [
        "budgets", "study", "--preset", "smoke", "--out", "table.csv", "--work", "work", "--json",
    ]  # fmt: skip
    change = ["labels=[4]", "seeds=[0]", 'students=["1 layer","tiny-t5"]']
    frugal(*words, *(w for text in change for w in ("--set", text)))


def plan(urls):
    frugal(*["plan", "--task", "counting", "--budget", "5", "--preset", "smoke", "--json"])


PRICE = (0.5, 1.5)  # USD for 1,000 tokens read, and written


def label(cap, count=12, more=""):
    def work(urls):
        words = f"budgets label counting --by tiny --base-url {urls['chat']} --folder bought {more}"
        words += f" --cap {cap} --count {count} --usd {PRICE[0]} --usd-out {PRICE[1]}"
        frugal(*words.split(), "--out", "own.jsonl", "--json")

    return work


def labelled(folder):
    return (folder / "own.jsonl").read_text().splitlines()


def answers(folder):
    """Keys and choices that are paid for."""
    file = folder / "bought" / "answers.jsonl"
    found = {}
    for line in file.read_bytes().split(b"\n")[:-1] if file.exists() else ():
        record = json.loads(line)
        if record.get("choice") is not None:
            found[record["key"]] = str(record["choice"]).encode()
    return found


def pretrain(urls):
    import torch
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    from frugal.engine import backbones, nano
    from frugal.pretraining import mixture
    from frugal.pretraining.mixture import Component, Mixture, Record, Wording

    tokenizer = backbones.load("tiny-t5", device="cpu").tokenizer

    def build(seed=0):
        sizes = {"vocab_size": len(tokenizer), "hidden_size": 24, "num_hidden_layers": 2}
        sizes |= {"num_attention_heads": 3, "intermediate_size": 40}
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        config = EncoderDecoderConfig.from_encoder_decoder_configs(
            BertConfig(**sizes, **off),
            BertConfig(**sizes, **off),
            pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return EncoderDecoderModel(config).eval(), tokenizer

    nano.build, nano.FROZEN_LAYERS = build, 1
    words = ["apple", "pear", "dog", "cat", "car", "bus"]
    kinds = [Record({"text": w}, i // 2) for i, w in enumerate(words)]
    wordings = [Wording("{text}?", ("fruit", "animal", "vehicle"))]
    mixture.load = lambda: Mixture([Component("kind", kinds, wordings, 1)])
    frugal(*["pretrain", "--out", "nano", "--steps", "12", "--json"])


def pretrained(folder):
    about = same(json.loads((folder / "nano" / "about.json").read_text()))
    return [about, tensors(folder / "nano" / "beyond_base.safetensors")]


def dequantise(urls):
    """SmolLM2's folder is made from its GGUF, for which something tiny stands in here."""
    import transformers

    from frugal.engine import artifacts, tiny

    def instead_of(place, real):
        def from_pretrained(folder, *args, gguf_file=None, **more):
            if gguf_file is None:
                return real(folder, *args, **more)
            return tiny.MODELS["tiny-causal"]()[place]

        return from_pretrained

    for place, name in enumerate(("AutoModelForCausalLM", "AutoTokenizer")):
        kind = getattr(transformers, name)
        kind.from_pretrained = instead_of(place, kind.from_pretrained)
    artifacts.member = lambda name, ending: Path("none.gguf").resolve()
    words = "rank counting --backbone smollm2-135m --preset smoke --limit 4 --scores own.jsonl"
    frugal(*words.split(), "--json")


def notebook(urls):
    """Two runs of a grid, each with a kernel of its own."""
    import nbformat

    cells = [
        nbformat.v4.new_code_cell("shots: int = 4", id="a", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print('twice', 2 * shots)", id="b"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), "../own.ipynb")
    frugal(*["run", "../own.ipynb", "--grid", "shots=1,2", "--out", ".", "--json"])


def grid(folder):
    import nbformat

    found = {}
    for file in sorted((folder / "own-grid").glob("*.ipynb")):
        cells = nbformat.read(file, as_version=4).cells
        found[file.name] = [o["text"] for c in cells for o in c.get("outputs", []) if "text" in o]
    return [found, rows(folder / "own-grid" / "table.csv")]


def grid_runs(folder):
    files = sorted(folder.glob("own-grid/runs/*/result.json"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


JOBS = [
    Job("tfew --save", tfew, adapter),
    Job("vectors", vectors, adapter),
    Job("figure2", figure2, store, results, shared=True),
    Job("table1", table1, store, results, shared=True),
    Job("spaces search", spaces, store, results, shared=True),
    Job("budgets label", label(50), labelled, answers),
    Job("label, in a batch", label(50, 23, "--batch-share 0.5"), labelled, answers),
    Job("label, small cap", label(0.5), lambda folder: None, answers, shared=True),
    Job("budgets study", study, lambda folder: rows(folder / "table.csv")),
    Job("plan", plan, printed),
    Job("pretrain", pretrain, pretrained),
    Job("run --grid", notebook, grid, grid_runs, shared=True),
    Job("dequantise", dequantise, labelled),
]
