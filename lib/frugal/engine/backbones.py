"""Backbones: a model, its tokenizer and what family it is of.

`load` takes a name this project pins (real weights, from the package index), a `tiny-` name
(random weights and a byte-level tokenizer, built in code, no files), a folder, or a hub id.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from frugal import data
from frugal.costs import derive, layers
from frugal.engine import digests, nano, tiny, whole
from frugal.errors import FrugalError, FrugalWarning, reason
from frugal.kernels import int8
from frugal.kernels.precision import FASTEST, FLOATS, NAMES, Float, resolve
from frugal.moved import names

Family = Literal["causal", "encoder-decoder", "encoder"]
FAMILIES: dict[str, Family] = {
    "decoder-only": "causal",
    "encoder-decoder": "encoder-decoder",
    "encoder-only": "encoder",
}
_BAR = re.compile(r"\s*$|.*\d+%\|").match  # an empty line, or a progress bar's


@dataclass(frozen=True)
class Backbone:
    """A transformers model in eval mode, its tokenizer, its family, and how long an input may be.

    limit:     tokens of an input, where fewer are wanted than the positions allow
    truncate:  whether the start of a prompt that is too long is cut; else it is a FrugalError
    precision: of its frozen weights, "int8" or one of DTYPES
    """

    name: str
    model: Any
    tokenizer: Any
    family: Family
    limit: int = 0
    truncate: bool = False
    precision: str = "float32"

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def max_tokens(self) -> int | None:
        """Longest input in tokens; None where nothing bounds it (T5)."""
        return min((n for n in (self.limit, self._positions) if n and n > 0), default=None)

    @property
    def _positions(self) -> int | None:
        """Longest input that the positions allow."""
        config = getattr(self.model.config, "encoder", None) or self.model.config
        if hasattr(config, "relative_attention_num_buckets"):
            return None
        names = ("max_position_embeddings", "n_positions", "max_encoder_position_embeddings")
        found = next((n for n in (getattr(config, name, None) for name in names) if n), None)
        for name, table in self.model.named_modules():
            if name.endswith("position_embeddings") and getattr(table, "padding_idx", None):
                return found and found - table.padding_idx - 1  # RoBERTa counts from there
        return found

    @property
    def decoder_ends(self) -> tuple[int, int]:
        """Ids of the token a decoder starts from and of the one that ends its text."""
        tokenizer, config = self.tokenizer, self.model.config
        named = (
            getattr(config, "decoder_start_token_id", None),
            getattr(self.model.generation_config, "decoder_start_token_id", None),
            getattr(getattr(config, "decoder", None), "bos_token_id", None),  # as T5Gemma's
            getattr(config, "pad_token_id", None),  # as T5's
        )
        start = next((token for token in named if token is not None), None)
        end = (
            tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        )
        if start is None or end is None:
            raise FrugalError(
                f"{self.name}: neither a start nor an end of the decoder's text is set"
            )
        return start, end

    def limited(self, tokens: int) -> "Backbone":
        """The same model, which cuts an input to `tokens` (0: as many as it can, cut or not)."""
        return dataclasses.replace(self, limit=tokens, truncate=self.truncate or tokens > 0)


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str,
    *,
    device: str | torch.device | None = None,
    precision: str = "float32",
    dtype: str | None = None,
    truncate: bool = False,
) -> Backbone:
    """The backbone called `name`, on `device` (default: CUDA where there is one), ready to score.

    precision: of the weights, "int8" or one of DTYPES. In "int8" the stacks' linear layers are
        frozen for good (`kernels.int8`), smoothed by what the model does with data/smoothing.txt,
        and all else is float32. "fastest" is what this machine is fastest with.
    dtype:     the former name of `precision`
    truncate:  cut the start of prompts that are too long for it, instead of a FrugalError for one

    Nothing but data is read: Python in a folder is never run, and weights are never unpickled.

    Raises FrugalError where the name is neither pinned, nor built in, nor a folder, and the hub
    cannot be reached; where a folder is not whole; where its weights are not all the model's,
    since transformers would draw at random what is missing; and where no layer can be int8.
    """
    if dtype is not None:
        message = "backbones.load: dtype is called precision now"
        warnings.warn(message, FrugalWarning, stacklevel=2)
        precision = dtype
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision not in DTYPES:
        precision = resolve(precision, device)
    own = DTYPES.get(precision, torch.float32)
    with _quiet():
        folder = str(PINNED[name]() if name in PINNED else name)
        try:
            if name in tiny.MODELS:
                model, tokenizer = tiny.MODELS[name]()
                _cast(model, own)
            elif os.path.isfile(os.path.join(folder, nano.WEIGHTS)):
                model, tokenizer = nano.load(Path(folder))
                _cast(model, own)
            else:
                model, tokenizer = _from_pretrained(folder, own)
            whole.tokenizer(tokenizer, model)
            found = Backbone(
                name,
                model.to(device).eval(),
                tokenizer,
                family(model.config),
                truncate=truncate,
                precision=precision,
            )
            if precision == "int8":
                int8.convert(model, _smoothing(found))
            return found
        except FrugalError as error:
            raise FrugalError(f"cannot load backbone {name!r}: {error}") from error


def resolved(
    precision: str,
    allowed: Collection[str] = NAMES,
    *,
    begun: Callable[[], str | None] = lambda: None,
) -> str:
    """`precision`, or where it is "fastest" that of `allowed` which is, where `load` puts a model.

    begun: gives what the work that goes on now was begun in, if it was: "fastest" stays that

    Raises FrugalError for what is unknown, or not allowed.
    """
    if precision == FASTEST and (before := begun()):
        return before
    if precision in DTYPES:
        return precision
    return resolve(precision, "cuda" if torch.cuda.is_available() else "cpu", allowed)


def trained(precision: str, *, begun: Callable[[], str | None] = lambda: None) -> Float:
    """Of weights that are trained, where frozen ones are in `precision`: float32 or bfloat16.

    Beside int8, and for "fastest", the one in which products are faster where `load` puts a model,
    or what the work was `begun` in.
    """
    own = resolved(precision if precision in FLOATS else FASTEST, FLOATS, begun=begun)
    return cast("Float", own)


def held(name: str, precision: str = "float32") -> Backbone:
    """As `load`; kept until another is wanted, or its files change: for the runs of a sweep."""
    return _held(name, digests.backbone(name), precision)


@functools.lru_cache(maxsize=1)
def _held(name: str, content: str, precision: str) -> Backbone:
    return load(name, precision=precision)


def _smoothing(backbone: Backbone) -> Iterator[dict[str, Any]]:
    """The texts of data/smoothing.txt, each as the model's forward takes it."""
    most = min(backbone.max_tokens or _SMOOTHED, _SMOOTHED)
    for text in (data.ROOT / "smoothing.txt").read_text(encoding="utf-8").splitlines():
        ids = backbone.tokenizer(text)["input_ids"][:most]
        batch: dict[str, Any] = {"input_ids": torch.tensor([ids], device=backbone.device)}
        if "logits_to_keep" in inspect.signature(backbone.model.forward).parameters:
            batch["logits_to_keep"] = 1  # nobody looks at the logits
        if backbone.family == "encoder-decoder":
            start, _ = backbone.decoder_ends
            batch["decoder_input_ids"] = torch.tensor([[start, *ids[:-1]]], device=backbone.device)
        yield batch


_SMOOTHED = 64  # tokens of such a text, at most


def _cast(model: Any, dtype: torch.dtype) -> None:
    """The weights of a model built in float32, in `dtype`, but for those that overflow in a half.

    As transformers loads them: T5's second feed-forward matrix stays in float32.
    """
    spared = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        spared |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, module in model.named_modules():
        own = torch.float32 if spared & set(name.split(".")) else dtype
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(own)


def at_hand(name: str) -> bool:
    """Whether `load` needs no hub for this name."""
    return name in PINNED or name in tiny.MODELS or os.path.isdir(name)


def family(config: Any) -> Family:
    """Of a transformers configuration; FrugalError for a model that is of none."""
    return FAMILIES[derive.kind_of(config)]


def _from_pretrained(folder: str, dtype: torch.dtype) -> tuple[Any, Any]:
    import transformers

    here = os.path.isdir(folder)
    if here:
        whole.files(Path(folder))
    elif os.path.exists(folder) or folder.startswith((".", "/", "~")) or folder.count("/") > 1:
        raise FrugalError("there is no such folder")
    safe: dict[str, Any] = {"trust_remote_code": False}  # nor is it asked for on the terminal
    stage = "config.json"
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **safe)
        auto = getattr(transformers, layers.AUTO[derive.kind_of(config)])
        stage = "its tokenizer's files"
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **safe)
        stage = "config.json or its weights"
        # What does not fit is listed in `loaded`, and refused in one line.
        safe |= {"weights_only": True, "ignore_mismatched_sizes": True}
        model, loaded = auto.from_pretrained(folder, dtype=dtype, output_loading_info=True, **safe)
    except FrugalError:
        raise
    except Exception as error:
        # A folder or a hub can be wrong in any way, and transformers raises as many exceptions.
        why = f"{stage}: {reason(error)}"
        if "trust_remote_code" in str(error) or "custom code" in str(error):
            why = "it needs Python code of its own, which is never run here"
        if "weights_only" in str(error):
            why = "its weights are a pickle that is cut off, or would run code, which is not read"
        if not here:
            offline = ", ".join([*PINNED, *tiny.MODELS])
            why = (
                f"no such folder, and the Hugging Face hub did not give it ({why}). "
                f"Without the hub these work: {offline}, or a model folder"
            )
        raise FrugalError(why) from error
    if getattr(model, "_hf_peft_config_loaded", False):
        raise FrugalError(f"an adapter is put on it; {whole.ADAPTER}")
    whole.weights(model, loaded, headless=family(model.config) == "encoder")
    return model, tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers draws progress bars even into a log; here only where someone looks.

    Nor does it report tensors that it lacks: they are an error here.
    """
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    heard = io.StringIO()  # reading a GGUF draws a bar that no switch of transformers stops
    try:
        if sys.stderr.isatty():
            yield
        else:
            logging.disable_progress_bar()
            with contextlib.redirect_stderr(heard):
                yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
        sys.stderr.writelines(line for line in heard.getvalue().splitlines(True) if not _BAR(line))


def _minilm() -> Path:
    from frugal.engine import artifacts

    return artifacts.member("minilm-l6", "model/config.json").parent


def _smollm2() -> Path:
    from frugal.engine import derived

    return derived.folder("smollm2-135m")


# Weights that the package index carries, as folders; see data/artifacts.toml. What fetches them is
# imported with the first: a model in a folder needs none of it.
PINNED: dict[str, Callable[[], Path]] = {
    "smollm2-135m": _smollm2,
    "minilm-l6": _minilm,
    "nano-t0": lambda: data.ROOT / "checkpoints" / "nano-t0",
}


__getattr__ = names(__name__, {"byte_tokenizer": "frugal.engine.tiny"})
