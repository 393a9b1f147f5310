"""Backbones: a model, its tokenizer and what family it is of.

`load` takes a name this project pins (real weights, from the package index), a `tiny-` name
(random weights and a byte-level tokenizer, built in code, no files), a folder, or a hub id.
"""

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import string
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from frugal import data
from frugal.costs import derive
from frugal.engine import artifacts, derived, digests, nano, tiny
from frugal.errors import FrugalError, reason, unknown

Family = Literal["causal", "encoder-decoder", "encoder"]
FAMILIES: dict[str, Family] = {
    "decoder-only": "causal",
    "encoder-decoder": "encoder-decoder",
    "encoder-only": "encoder",
}
_LFS = b"version https://git-lfs.github.com/spec/"
_BAR = re.compile(r"\s*$|.*\d+%\|").match  # an empty line, or a progress bar's


@dataclass(frozen=True)
class Backbone:
    """A transformers model in eval mode, its tokenizer, and its family."""

    name: str
    model: Any
    tokenizer: Any
    family: Family
    limit: int = 0  # tokens of an input, where fewer are wanted than the positions allow

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
        """The same model, which takes no more than `tokens` of an input (0: as many as it can)."""
        return dataclasses.replace(self, limit=tokens)


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str = torch.float32,
) -> Backbone:
    """The backbone called `name`, on `device` (default: CUDA where there is one), ready to score.

    dtype: of the weights, a torch dtype or a name of DTYPES

    Nothing but data is read: Python in a folder is never run, and weights are never unpickled.

    Raises FrugalError where the name is neither pinned, nor built in, nor a folder, and the hub
    cannot be reached; where a folder is not whole; and where its weights are not all the model's,
    since transformers would draw at random what is missing.
    """
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        dtype = DTYPES[dtype]
    if name in tiny.MODELS:
        model, tokenizer = tiny.MODELS[name]()
        _cast(model, dtype)
    else:
        folder = str(PINNED[name]() if name in PINNED else name)
        if os.path.isfile(os.path.join(folder, nano.WEIGHTS)):
            with _quiet():
                model, tokenizer = nano.load(Path(folder))
            _cast(model, dtype)
        else:
            model, tokenizer = _from_pretrained(folder, name, dtype)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = Backbone(name, model.to(device).eval(), tokenizer, family(model.config))
    try:
        _check_tokenizer(backbone)
    except FrugalError:
        raise
    except Exception as error:  # its files can say anything
        raise FrugalError(
            f"cannot load backbone {name!r}: its tokenizer's files: {reason(error)}"
        ) from error
    return backbone


def held(name: str, dtype: str = "float32") -> Backbone:
    """As `load`; kept until another is wanted, or its files change: for the runs of a sweep."""
    return _held(name, digests.backbone(name), dtype)


@functools.lru_cache(maxsize=1)
def _held(name: str, content: str, dtype: str) -> Backbone:
    return load(name, dtype=dtype)


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


def _from_pretrained(folder: str, name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    import transformers

    here = os.path.isdir(folder)
    if here:
        _check_files(Path(folder))
    elif os.path.exists(folder) or folder.startswith((".", "/", "~")) or folder.count("/") > 1:
        raise FrugalError(f"cannot load backbone {name!r}: there is no such folder")
    safe: dict[str, Any] = {"trust_remote_code": False}  # nor is it asked for on the terminal
    stage = "config.json"
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(folder, **safe)
            auto = getattr(transformers, derive.AUTO[derive.kind_of(config)])
            stage = "its tokenizer's files"
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **safe)
            stage = "config.json or its weights"
            # What does not fit is listed in `loaded`, and refused in one line.
            safe |= {"weights_only": True, "ignore_mismatched_sizes": True}
            model, loaded = auto.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, **safe
            )
    except FrugalError as error:
        raise FrugalError(f"cannot load backbone {name!r}: {error}") from error
    except Exception as error:
        # A folder or a hub can be wrong in any way, and transformers raises as many exceptions.
        why = f"{stage}: {reason(error)}"
        if "trust_remote_code" in str(error) or "custom code" in str(error):
            why = "it needs Python code of its own, which is never run here"
        if "weights_only" in str(error):
            why = "its weights are a pickle that is cut off, or would run code, which is not read"
        if here:
            raise FrugalError(f"cannot load backbone {name!r}: {why}") from error
        offline = ", ".join([*PINNED, *tiny.MODELS])
        raise FrugalError(
            f"cannot load backbone {name!r}: no such folder, and the Hugging Face hub did not "
            f"give it ({why}). Without the hub these work: {offline}, or a model folder"
        ) from error
    if getattr(model, "_hf_peft_config_loaded", False):
        raise FrugalError(f"cannot load backbone {name!r}: an adapter is put on it; {_ADAPTER}")
    _check_weights(name, model, loaded)
    return model, tokenizer


_ADAPTER = "give its base model as the backbone, and it as --adapter"
# Tables that older versions of transformers saved beside the weights.
_NO_WEIGHT = re.compile(
    r"(^|\.)(position_ids|masked_bias|attn\.bias|attention\.bias|inv_freq|final_logits_bias)$"
)
_SIGNS = string.ascii_letters + string.digits + string.punctuation
_OBJECTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
# What an encoder is loaded without: its heads. Its pooler is read by nobody here.
_POOLER = re.compile(r"(^|\.)pooler\.")


def _check_files(folder: Path) -> None:
    """Raise FrugalError for a folder that is no whole model, before transformers misreads it."""
    from safetensors import SafetensorError, safe_open

    def wrong(why: str) -> FrugalError:
        return FrugalError(f"cannot load backbone {str(folder)!r}: {why}")

    if (folder / "adapter_config.json").is_file():
        raise wrong(f"it holds an adapter; {_ADAPTER}")
    if not (folder / "config.json").is_file():
        raise wrong("it has no config.json, so it is no model folder")
    for file in sorted(f for f in folder.iterdir() if f.is_file()):
        try:
            with file.open("rb") as opened:
                pointer = opened.read(len(_LFS)) == _LFS
            if pointer:
                raise wrong(f"{file.name} is a Git LFS pointer, not the file; run `git lfs pull`")
            if file.name.endswith(".index.json"):
                parts = set(json.loads(file.read_bytes())["weight_map"].values())
                if lost := sorted(part for part in parts if not (folder / part).is_file()):
                    raise wrong(f"{file.name} names {lost[0]}, which is not there")
            elif file.suffix == ".json":
                found = json.loads(file.read_bytes())
                if file.name in _OBJECTS and not isinstance(found, dict):
                    raise wrong(f"{file.name} holds no JSON object")
            elif file.suffix == ".safetensors":
                with safe_open(file, "pt") as tensors:
                    for key in tensors.keys():  # noqa: SIM118
                        kind = tensors.get_slice(key).get_dtype()
                        real = kind[0] in "FB" and kind != "BOOL"
                        if not real and not _NO_WEIGHT.search(key):
                            raise wrong(f"{file.name}: {key} is of {kind}, which no weight is")
        except FrugalError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise wrong(f"{file.name} cannot be read ({error})") from error
        except RecursionError as error:
            raise wrong(f"{file.name} is nested too deeply to be read") from error
        except SafetensorError as error:
            raise wrong(f"{file.name} is cut off or no safetensors file ({error})") from error


def _check_weights(name: str, model: Any, loaded: Mapping[str, Any]) -> None:
    """Raise FrugalError unless the file held this model's tensors, each of them and no others.

    Nor may a number in them be none, which every score would turn into.
    """
    encoder = family(model.config) == "encoder"
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    missing = sorted(set(loaded["missing_keys"]) - tied)
    odd = sorted(key for key in loaded["unexpected_keys"] if not _NO_WEIGHT.search(key))
    if encoder:
        # Its heads may be more; a layer more than the configuration has is none of them.
        stacks = {n.split(".0.")[0] for n, _ in model.named_parameters() if ".0." in n}
        missing = [key for key in missing if not _POOLER.search(key)]
        odd = [key for key in odd if re.split(r"\.\d+\.", key)[0].endswith(tuple(stacks))]
    shapes = sorted(key for key, *_ in loaded["mismatched_keys"])
    for keys, what in (
        (missing, "its weights lack"),
        (odd, "its weights hold what the model of its config.json has not:"),
        (shapes, "its weights have other shapes than its config.json:"),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise FrugalError(f"cannot load backbone {name!r}: {what} {', '.join(keys[:3])}{more}")
    for key, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise FrugalError(
                f"cannot load backbone {name!r}: its weights are no finite numbers in "
                f"{str(parameter.dtype).removeprefix('torch.')}: {key}"
            )


def _check_tokenizer(backbone: Backbone) -> None:
    """Raise FrugalError for a tokenizer that reads nothing, or whose ids have no embedding."""
    tokenizer, name = backbone.tokenizer, backbone.name
    ids = tokenizer("Is it read?", add_special_tokens=False)["input_ids"]
    if not ids or set(ids) == {tokenizer.unk_token_id}:
        raise FrugalError(
            f"cannot load backbone {name!r}: its tokenizer reads no text; "
            "are the tokenizer's own files there?"
        )
    if lost := [c for c in _SIGNS if not tokenizer(c, add_special_tokens=False)["input_ids"]]:
        raise FrugalError(
            f"cannot load backbone {name!r}: its tokenizer drops {lost[0]!r} from every text; "
            "is its vocabulary whole?"
        )
    rows = backbone.model.get_input_embeddings().weight.shape[0]
    # Beyond its text a tokenizer may know signs of an image, which no prompt should hold.
    signs = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    named = {tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id} - {None}
    known = set(tokenizer.get_vocab().values()) - signs | named
    if (most := max(known)) >= rows:
        raise FrugalError(
            f"cannot load backbone {name!r}: its tokenizer gives ids up to {most}, "
            f"its embeddings have {rows} rows; are they of one model?"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers draws progress bars even into a log; here only where someone looks.

    Nor does it report tensors that it lacks: they are an error here.
    """
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        if sys.stderr.isatty():
            yield
        else:
            with _unbarred():
                yield
    finally:
        logging.set_verbosity(level)


@contextlib.contextmanager
def _unbarred() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    heard = io.StringIO()  # reading a GGUF draws a bar that no switch of transformers stops
    try:
        with contextlib.redirect_stderr(heard):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
        sys.stderr.writelines(line for line in heard.getvalue().splitlines(True) if not _BAR(line))


def _smollm2() -> Path:
    """The folder of SmolLM2-135M in fp32."""
    with _quiet():
        return derived.folder("smollm2-135m")


def _minilm() -> Path:
    return artifacts.member("minilm-l6", "model/config.json").parent


# Weights that the package index carries, as folders; see data/artifacts.toml.
PINNED: dict[str, Callable[[], Path]] = {
    "smollm2-135m": _smollm2,
    "minilm-l6": _minilm,
    "nano-t0": lambda: data.ROOT / "checkpoints" / "nano-t0",
}
