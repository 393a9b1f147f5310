"""This library on a GPU: `make gpu`, which needs no network and installs nothing.

A list of pieces, each of a few minutes at most. The rows of a piece are added to
data/results/gpu.csv when it is done, and a piece whose rows of this GPU and this library are there
is not done again: what was stopped goes on. A piece that raises an error leaves no rows.

Nothing is needed beyond torch and transformers; Triton is used where it is. A piece that does need
more, as the unit tests do pytest, is left out where that is not installed, and one line says so.

All weights are random and all texts made up. What is measured is time, memory and difference:
against the plain forms of the kernels, float32, the closed forms of `costs`, and, where it is
installed, Hugging Face `peft` with one padded row per choice.
"""

import argparse
import contextlib
import csv
import dataclasses
import datetime
import functools
import importlib.util
import io
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

NEEDED = ("torch", "transformers")  # and what they bring; triton is not: torch's forms serve
if absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    print(f"gpu.py: not installed here: {', '.join(absent)}", file=sys.stderr)
    raise SystemExit(2)

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # of `repeatable`; read once
import torch
import transformers
from torch import Tensor

from frugal import peft
from frugal.costs import arch, flops, layers, memory
from frugal.costs.arch import Architecture
from frugal.engine import backbones, digests, files, tiny
from frugal.engine import training as loop
from frugal.engine.backbones import Backbone
from frugal.engine.checkpoints import Checkpoint
from frugal.fewshot import choices, encoding, losses, packing, passes, probe
from frugal.fewshot.choices import ChoiceScores
from frugal.fewshot.encoding import EncodedExample
from frugal.kernels import checks, frozen_vocab, ia3_gated, precision

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "lib" / "frugal"
OUT = ROOT / "data" / "results" / "gpu.csv"
BOUNDS = {"float32": checks.EXACT, "bfloat16": 2e-2}  # of the largest value, as `checks` has them
PASSES = {"float32": 1e-4, "bfloat16": 2e-2}  # of whole models: packed, and a row per choice
TURNED = 0.02  # 1 - cosine of a gradient and float32's
MEASURED = ("what", "precision", "seconds", "reference_s", "ratio", "gib", "expected_low_gib",
            "expected_high_gib", "error", "bound", "ok")  # fmt: skip
LONGEST = 450  # seconds of one folder's tests
MARKS = "not real and not cluster and not slow and not browser"  # as in `make check`


@dataclass(frozen=True)
class Work:
    """Where a piece runs, and at which sizes: those that count, unless a test says smaller ones.

    processes: of the unit tests, beside the one that starts them
    """

    device: str
    shape: Callable[[str], Architecture] = arch.get
    places: int = 4096
    steps: int = 10
    repeats: int = 5
    processes: int = 4


@dataclass(frozen=True)
class Row:
    """What was measured.

    seconds, reference_s: of the form in question, and of what it is compared with
    gib:   the most memory held on the GPU, with all that was there before, and what it must be
        between; None elsewhere
    error: of a result, and how large it may be
    holds: whatever else must be
    """

    what: str
    precision: str = ""
    seconds: float | None = None
    reference_s: float | None = None
    gib: float | None = None
    expected_low_gib: float | None = None
    expected_high_gib: float | None = None
    error: float | None = None
    bound: float | None = None
    holds: bool = True

    @property
    def ok(self) -> bool:
        pairs = (
            (self.expected_low_gib, self.gib),
            (self.gib, self.expected_high_gib),
            (self.error, self.bound),
        )
        return self.holds and all(a <= b for a, b in pairs if a is not None and b is not None)

    def cells(self) -> dict[str, Any]:
        ratio = self.reference_s / self.seconds if self.reference_s and self.seconds else None
        found = dataclasses.asdict(self) | {"ratio": ratio, "ok": "yes" if self.ok else "no"}
        return {c: f"{found[c]:.4g}" if isinstance(found[c], float) else found[c] for c in MEASURED}


Piece = Callable[[Work], Iterable[Row]]


# Measuring


def on_gpu(device: str, call: Callable[[], Any]) -> Any:
    """What `call`, a function of torch.cuda, gives; nothing happens for another device."""
    return call() if torch.device(device).type == "cuda" else None


class Measured(NamedTuple):
    value: Any
    seconds: float
    gib: float | None


@contextlib.contextmanager
def peak(device: str) -> Iterator[Callable[[], float | None]]:
    """GiB that are held at most in this block, as a function to call."""
    on_gpu(device, torch.cuda.empty_cache)
    on_gpu(device, torch.cuda.reset_peak_memory_stats)
    yield lambda: on_gpu(device, lambda: torch.cuda.max_memory_allocated() / memory.GIB)


def measured(work: Work, function: Callable[[], Any]) -> Measured:
    """What a function gives, the median seconds of the calls after the first, and the memory."""
    with peak(work.device) as gib:
        value, seconds = function(), []
        for _ in range(work.repeats):
            on_gpu(work.device, torch.cuda.synchronize)
            started = time.perf_counter()
            function()
            on_gpu(work.device, torch.cuda.synchronize)
            seconds.append(time.perf_counter() - started)
        return Measured(value, statistics.median(seconds), gib())


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the other's largest value."""
    one, other = one.detach().double().cpu(), other.detach().double().cpu()
    return float((one - other).abs().max() / other.abs().max())


# Kernels


def kernels(work: Work) -> Iterator[Row]:
    for check in checks.run(work.device):
        what, _, kind = check.name.rpartition(", ")
        yield Row(what, kind, error=check.error, bound=check.bound)


def rates(work: Work) -> Iterator[Row]:
    taken = precision.seconds(work.device)
    for kind, seconds in taken.items():
        yield Row("a linear map, 256 tokens, 576 to 1,536", kind, seconds, taken["float32"])


def real_sizes(work: Work) -> Iterator[Row]:
    """Both kernels, forward and backward, at a model's sizes, against the plain forms."""
    for name, activation in (("t0-3b", "gelu_tanh"), ("smollm2-135m", "silu")):
        for kind in BOUNDS:
            yield _vocabulary(work, name, kind)
            yield _gated(work, name, kind, activation)


def _vocabulary(work: Work, name: str, kind: str) -> Row:
    shape, draw = work.shape(name), _drawing(work.device, kind)
    h = draw(work.places, shape.d_model).requires_grad_()
    words = draw(shape.vocabulary, shape.d_model) * shape.d_model**-0.5
    row = torch.arange(work.places, device=work.device)
    target = row * 7919 % shape.vocabulary

    def form(logp: Callable[..., Tensor]) -> list[Tensor]:
        found = logp(h, words, target, row)
        return [found, *torch.autograd.grad(found.sum(), h)]

    what = f"frozen_vocab, {name}: {work.places} places, {shape.d_model} × {shape.vocabulary}"
    return _beside(work, what, kind, form, frozen_vocab.token_logp, frozen_vocab.reference)


def _gated(work: Work, name: str, kind: str, activation: str) -> Row:
    shape, draw = work.shape(name), _drawing(work.device, kind)
    gate, up = (draw(8, work.places // 8, shape.d_ff).requires_grad_() for _ in range(2))
    scale = draw(4, shape.d_ff).float().requires_grad_()
    task = torch.arange(8, device=work.device) % 4

    def form(gated: Callable[..., Tensor]) -> list[Tensor]:
        found = gated(gate, up, scale, task, activation)
        return [found, *torch.autograd.grad(found.square().sum(), (gate, up, scale))]

    what = f"ia3_gated, {name}: {work.places} places, d_ff {shape.d_ff}, {activation}"
    return _beside(work, what, kind, form, ia3_gated.gated, ia3_gated.reference)


def _beside(work: Work, what: str, kind: str, form: Callable[..., Any], *both: Any) -> Row:
    """A kernel and its plain form."""
    fast, plain = (measured(work, functools.partial(form, function)) for function in both)
    error = max(map(apart, fast.value, plain.value))
    return Row(
        what,
        kind,
        fast.seconds,
        plain.seconds,
        fast.gib,
        expected_high_gib=plain.gib,
        error=error,
        bound=BOUNDS[kind],
    )


def _drawing(device: str, kind: str) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(0)
    dtype = backbones.DTYPES[kind]
    return lambda *shape: torch.randn(*shape, generator=generator).to(device, dtype)


# Models of random weights, behind the byte tokenizer


class Text(NamedTuple):
    """An example, as `encoding.encode` reads it."""

    prompt: str
    choices: tuple[str, ...]
    label: int


def texts(count: int, lines: int = 1) -> Any:
    """Prompts of more than 100 bytes a line, which begin differently: they share nothing."""
    story = "is the number of a text that tells nothing to anybody, and goes on for a while;\n"
    return [
        Text(
            prompt=f"{i:03d} {story * lines} can it be divided by two?",
            choices=(" yes, it can", " no, it cannot"),
            label=i % 2,
        )
        for i in range(count)
    ]


def drawn(name: str, shape: Architecture, kind: str, device: str) -> Backbone:
    """A model of that shape, made where it stays."""
    t5 = shape.family == "t5"
    _, tokenizer = tiny.MODELS["tiny-t5" if t5 else "tiny-causal"]()
    own = {
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = _t5(shape, own) if t5 else _llama(shape, own)
    auto = getattr(transformers, layers.AUTO[shape.kind])
    torch.manual_seed(0)
    with torch.device(device):
        model = auto.from_config(config, dtype=backbones.DTYPES[kind]).eval()
    return Backbone(name, model, tokenizer, backbones.family(config), precision=kind)


def _t5(shape: Architecture, own: Mapping[str, Any]) -> transformers.T5Config:
    return transformers.T5Config(
        d_model=shape.d_model,
        d_kv=shape.head_size,
        d_ff=shape.d_ff,
        num_layers=shape.layers,
        num_decoder_layers=shape.decoder_layers,
        num_heads=shape.heads,
        feed_forward_proj="gated-gelu" if shape.gated else "relu",
        decoder_start_token_id=own["pad_token_id"],
        **own,
    )


def _llama(shape: Architecture, own: Mapping[str, Any]) -> transformers.LlamaConfig:
    return transformers.LlamaConfig(
        hidden_size=shape.d_model,
        intermediate_size=shape.d_ff,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        bos_token_id=None,
        **own,
    )


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Sums in one order, which is what the same bits again take.

    A GPU adds to places as they come (`index_add`, the gradient of attention), unless it is told
    not to; a training that nobody killed differs from itself in the last digits, too.
    """
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def training(name: str, work: Work) -> Iterator[Row]:
    """Ten steps of (IA)³ in every precision, and the same killed half-way and resumed."""
    with tempfile.TemporaryDirectory() as folder:
        model = drawn(name, work.shape(name), "float32", work.device)
        model.model.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        del model
        first: dict[str, Tensor] = {}
        taken: dict[str, float] = {}
        for kind in precision.NAMES:
            backbone = backbones.load(folder, device=work.device, precision=kind)
            encoded = encoding.encode(backbone, texts(8))
            first[kind] = _gradient(backbone, encoded)
            cosine = torch.cosine_similarity(first["float32"], first[kind], dim=0)
            with peak(work.device) as gib:
                loss, _, taken[kind] = _trained(work, backbone, encoded)
                most = gib()
            yield Row(
                f"(IA)³ step, {name}; 1 - cosine of the gradient",
                kind,
                taken[kind],
                taken["float32"],
                most,
                error=1 - float(cosine),
                bound=TURNED,
                holds=all(map(math.isfinite, loss)) and loss[-1] < loss[0],
            )
            what = f"killed and resumed, {name}"
            try:
                with repeatable():
                    yield Row(what, kind, error=_resumed(work, backbone, encoded), bound=0.0)
            except RuntimeError as error:  # an operation that has no such order
                yield Row(f"{what}: {str(error).splitlines()[0][:200]}", kind, holds=False)


def _resumed(work: Work, backbone: Backbone, encoded: Sequence[EncodedExample]) -> float:
    """How far vectors are from those of a training that nobody killed."""
    _, whole, _ = _trained(work, backbone, encoded)
    with tempfile.TemporaryDirectory() as folder:
        state = Checkpoint(Path(folder) / "state.safetensors", {})
        with contextlib.suppress(KeyboardInterrupt):
            _trained(work, backbone, encoded, state, stop=work.steps // 2)
        assert state.file.is_file()
        _, resumed, _ = _trained(work, backbone, encoded, state)
    return apart(resumed, whole)


def _trained(
    work: Work,
    backbone: Backbone,
    encoded: Sequence[EncodedExample],
    state: Checkpoint | None = None,
    stop: int = 0,
) -> tuple[list[float], Tensor, float]:
    """The loss of every step, the vectors, and the seconds of a step; `stop` kills it behind one.

    As `tfew.train` does, with all examples in every step.
    """
    tuned = peft.attach(backbone.model, "ia3")
    ends = []

    def backward(step: int) -> float:
        if stop and step == stop:
            raise KeyboardInterrupt
        loss = _loss(choices.together(backbone, encoded))
        loss.backward()
        return loss.item()

    own = dict(tuned.named_parameters())
    try:
        loss, _ = loop.run(
            own,
            torch.optim.Adafactor(own.values(), lr=3e-2, eps=(1e-15, 1e-3), weight_decay=0.0),
            backward,
            steps=work.steps,
            factor=lambda step: loop.schedule(step, work.steps, warmup=0.06),
            gradient_clip=1.0,
            state=state,
            every=1,
            progress=lambda *_: ends.append(time.perf_counter()),
        )
        vectors = torch.cat([p.detach().flatten() for p in own.values()])
    finally:
        tuned.detach()
    return loss, vectors, statistics.median(b - a for a, b in itertools.pairwise(ends))


def _gradient(backbone: Backbone, encoded: Sequence[EncodedExample]) -> Tensor:
    tuned = peft.attach(backbone.model, "ia3")
    _loss(choices.together(backbone, encoded)).backward()
    found = torch.cat([p.grad.double().cpu().flatten() for p in tuned.parameters()])
    tuned.detach()
    return found


def _loss(scores: ChoiceScores) -> Tensor:
    return torch.stack([loss(scores) for loss in losses.LOSSES.values()]).sum()


def trees(name: str, work: Work) -> Iterator[Row]:
    """Long rows of trees, forward and backward, by FlexAttention and by a mask."""
    for kind in BOUNDS:
        backbone = drawn(name, work.shape(name), kind, work.device)
        tuned = peft.attach(backbone.model, "ia3")
        some = [packing.tree(e) for e in encoding.encode(backbone, texts(16, lines=4))]
        rows = [[4 * r + i for i in range(4)] for r in range(4)]
        batch = packing.pack(some, rows, backbone.device)
        what = f"{len(rows)} rows of {batch.input_ids.shape[1]} tokens, {name}; against a mask"
        if not probe.flexes(backbone):
            yield Row(f"{what}: FlexAttention does not serve here", kind, holds=False)
            continue

        form = functools.partial(_packed, backbone, batch, tuned)
        flex, mask = (measured(work, functools.partial(form, f)) for f in (True, False))
        largest = max(float(value.abs().max()) for value in mask.value[1:])
        error = apart(flex.value[0], mask.value[0])
        for one, other in zip(flex.value[1:], mask.value[1:], strict=True):
            error = max(error, float((one - other).abs().max()) / largest)
        more = {"error": error, "bound": PASSES[kind]}
        yield Row(what, kind, flex.seconds, mask.seconds, flex.gib, **more)


def _packed(backbone: Backbone, batch: packing.PackedBatch, tuned: Any, flex: bool) -> list[Tensor]:
    """Log-probabilities, and the gradients of the vectors."""
    logp = passes.packed(backbone, batch, flex=flex)
    return [logp, *torch.autograd.grad(logp.square().sum(), list(tuned.parameters()))]


def large(name: str, kind: str, work: Work) -> Iterator[Row]:
    """Scoring, and one (IA)³ step on 8 examples: time, and memory against its closed form."""
    backbone = drawn(name, work.shape(name), kind, work.device)
    many = encoding.encode(backbone, texts(32))
    with torch.inference_mode():
        ours = measured(work, lambda: choices.score(backbone, many).token_logp)
        plain = measured(work, lambda: passes.one_row_per_choice(backbone, many))
    yield Row(
        f"scoring 32 × 2 choices, {name}; against a row per choice",
        kind,
        ours.seconds,
        plain.seconds,
        ours.gib,
        error=apart(ours.value, plain.value),
        bound=PASSES[kind],
    )
    encoded = many[:8]
    tuned = peft.attach(backbone.model, "ia3")
    ours = measured(work, lambda: _step(tuned, lambda: choices.together(backbone, encoded)))
    tuned.detach()
    band = _band(work.shape(name), kind, encoded)
    peer = _peer(work, backbone, encoded) if importlib.util.find_spec("peft") else None
    yield Row(
        f"(IA)³ step on 8 × 2 choices, {name}; against HF peft",
        kind,
        ours.seconds,
        peer and peer.seconds,
        ours.gib,
        expected_low_gib=band.low / memory.GIB,
        expected_high_gib=band.high / memory.GIB,
        error=peer and apart(ours.value, peer.value),
        bound=PASSES[kind],
    )


def _band(shape: Architecture, kind: str, encoded: Sequence[EncodedExample]) -> memory.Band:
    """Bytes that a step on these takes, all of which are as long as the first."""
    tokens = [len(s) - 1 for s in encoded[0].sequences]
    fed = flops.packed_shape(shape, len(encoded[0].read), tokens)
    more = {"method": "ia3", "optimizer": "adafactor", "dtype": kind}
    return memory.total(memory.training(shape, **fed, batch=len(encoded), **more))


def _peer(work: Work, backbone: Backbone, encoded: Sequence[EncodedExample]) -> Measured:
    """The same step with HF peft's (IA)³ and one padded row per choice."""
    import peft as hf

    own = hf.IA3Config(target_modules=["k", "v", "wo"], feedforward_modules=["wo"])
    wrapped = hf.get_peft_model(backbone.model, own)
    theirs = Backbone(backbone.name, wrapped.base_model.model, backbone.tokenizer, backbone.family)
    choice, example, correct = (
        x.to(work.device) for x in packing.numbering([packing.tree(e) for e in encoded])
    )

    def scores() -> ChoiceScores:
        logp = passes.one_row_per_choice(theirs, encoded)
        return ChoiceScores(logp, choice, example, correct, tokens_computed=0)

    return measured(work, lambda: _step(wrapped, scores))


def _step(tuned: Any, scores: Callable[[], ChoiceScores]) -> Tensor:
    """Forward and backward; the loss."""
    loss = _loss(scores())
    loss.backward()
    for parameter in tuned.parameters():
        parameter.grad = None
    return loss.detach()


# The unit tests; a backbone is on the GPU unless a test says otherwise


def suite(tests: Sequence[Path], work: Work) -> Iterator[Row]:
    """Those of some files. What needs a package that is not here is counted as not run."""
    if importlib.util.find_spec("pytest") is None:
        raise ModuleNotFoundError("the unit tests need pytest", name="pytest")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "-m", MARKS, "-p", "no:cacheprovider"]
        argv += ["-W", "default"]  # other versions warn of other things
        argv += ["--continue-on-collection-errors", f"--junitxml={report}", *map(str, tests)]
        argv += ["-n", str(work.processes)] if importlib.util.find_spec("xdist") else []
        one = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = time.perf_counter()
        subprocess.run(argv, env=one, timeout=LONGEST, check=False)
        seconds = time.perf_counter() - started
        cases = [
            {part.tag: part.text or "" for part in case}
            for case in ElementTree.parse(report).iter("testcase")
        ]
    wrong = [text for c in cases for tag, text in c.items() if tag in ("failure", "error")]
    without = sum("ModuleNotFoundError" in text for text in wrong)
    skipped = sum("skipped" in case for case in cases)
    passed, failed = len(cases) - len(wrong) - skipped, len(wrong) - without
    what = f"{passed} passed, {failed} failed, {skipped} skipped, {without} not run"
    yield Row(what, seconds=seconds, error=float(failed), bound=0.0)


def pieces() -> dict[str, Piece]:
    """Name -> what it measures."""
    tests = itertools.groupby(sorted((ROOT / "tests").rglob("test_*.py")), lambda p: p.parent)
    folders = {f.relative_to(ROOT): list(some) for f, some in tests if f.name != "browser"}
    return {
        "kernels": kernels,
        "rates": rates,
        "kernels at real sizes": real_sizes,
        "trees": functools.partial(trees, "smollm2-135m"),
        "training smollm2-135m": functools.partial(training, "smollm2-135m"),
        "training t5-small": functools.partial(training, "t5-small"),
        "t0-3b": functools.partial(large, "t0-3b", "bfloat16"),
        "preset colab": functools.partial(large, "t5-v1_1-large", "float32"),
        **{f"{f}": functools.partial(suite, some) for f, some in folders.items()},
    }


# The table


def library() -> str:
    """What tells this library from another: twelve digits of a digest of its modules."""
    modules = sorted(LIBRARY.rglob("*.py"))
    return digests.of({str(m.relative_to(LIBRARY)): digests.file(m) for m in modules})[:12]


def run(todo: Mapping[str, Piece], work: Work, out: Path, seconds: float = math.inf) -> int:
    """Do what is left, each piece before `seconds` are over. 1 if a row is not ok, else 0."""
    gpu = on_gpu(work.device, torch.cuda.get_device_name) or work.device
    machine = {"gpu": gpu, "torch": torch.__version__, "date": f"{datetime.date.today()}"}
    here = {**machine, "library": library()}
    started, raised = time.perf_counter(), False
    without: dict[str, list[str]] = {}  # package -> pieces that need it
    for name, piece in todo.items():
        if any(row["piece"] == name for row in _rows(out, here)):
            continue
        if time.perf_counter() - started > seconds:
            print(f"gpu.py: no time is left for {name!r} and what comes after it")
            break
        try:
            _add(out, [{"piece": name, **row.cells(), **here} for row in piece(work)])
        except ModuleNotFoundError as error:
            without.setdefault(error.name or str(error), []).append(name)
        except Exception:
            traceback.print_exc()
            raised = True
    for package, names in without.items():
        left = f"left out: {', '.join(names)}"
        print(f"gpu.py: not installed here: {package}; {left}", file=sys.stderr)
    return int(raised or any(row["ok"] != "yes" for row in _rows(out, here)))


def _rows(out: Path, here: Mapping[str, str]) -> list[dict[str, str]]:
    """Those of this GPU and this library."""
    if not out.exists():
        return []
    with out.open(encoding="utf-8", newline="") as file:
        return [r for r in csv.DictReader(file) if all(r[k] == here[k] for k in ("gpu", "library"))]


def _add(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(out.read_text(encoding="utf-8") if out.exists() else "")
    text.seek(0, io.SEEK_END)
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if not text.tell():
        writer.writeheader()
    writer.writerows(rows)
    files.write(out, text.getvalue())
    for row in rows:
        print(" | ".join(f"{k} {v}" for k, v in list(row.items())[:-4] if v not in (None, "")))
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no piece after so many"
    )
    seconds = parser.parse_args().seconds
    if not torch.cuda.is_available():
        print("gpu.py: torch finds no GPU here", file=sys.stderr)
        return 2
    return run(pieces(), Work("cuda"), OUT, seconds)


if __name__ == "__main__":
    raise SystemExit(main())
