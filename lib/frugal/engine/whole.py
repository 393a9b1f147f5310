"""Whether a model is whole: its folder before it is loaded, its weights and its tokenizer after.

transformers draws at random what is missing, and says nothing; here it is an error in one line.
"""

import json
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugal.errors import FrugalError, reason

ADAPTER = "give its base model as the backbone, and it as --adapter"
_LFS = b"version https://git-lfs.github.com/spec/"
_OBJECTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
# Tables that older versions of transformers saved beside the weights.
_NO_WEIGHT = re.compile(
    r"(^|\.)(position_ids|masked_bias|attn\.bias|attention\.bias|inv_freq|final_logits_bias)$"
)
_POOLER = re.compile(r"(^|\.)pooler\.")  # an encoder's, which nobody here reads
_SIGNS = string.ascii_letters + string.digits + string.punctuation


def files(folder: Path) -> None:
    """Raise FrugalError for a folder that is no whole model, before transformers misreads it."""
    from safetensors import SafetensorError

    if (folder / "adapter_config.json").is_file():
        raise FrugalError(f"it holds an adapter; {ADAPTER}")
    if not (folder / "config.json").is_file():
        raise FrugalError("it has no config.json, so it is no model folder")
    for file in sorted(f for f in folder.iterdir() if f.is_file()):
        try:
            problem = _problem(file)
        except RecursionError:
            problem = "is nested too deeply to be read"
        except SafetensorError as error:
            problem = f"is cut off or no safetensors file ({error})"
        except Exception as error:  # its files can say anything
            problem = f"cannot be read ({error})"
        if problem:
            raise FrugalError(f"{file.name} {problem}")


def _problem(file: Path) -> str:
    """What is wrong with a file of a model's folder, or ""."""
    from safetensors import safe_open

    with file.open("rb") as opened:
        if opened.read(len(_LFS)) == _LFS:
            return "is a Git LFS pointer, not the file; run `git lfs pull`"
    if file.suffix == ".json":
        found = json.loads(file.read_bytes())
        if file.name in _OBJECTS and not isinstance(found, dict):
            return "holds no JSON object"
        if file.name.endswith(".index.json"):
            parts = sorted(set(found["weight_map"].values()))
            if lost := [part for part in parts if not (file.parent / part).is_file()]:
                return f"names {lost[0]}, which is not there"
    elif file.suffix == ".safetensors":
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118
                kind = tensors.get_slice(key).get_dtype()
                real = kind[0] in "FB" and kind != "BOOL"
                if not real and not _NO_WEIGHT.search(key):
                    return f"holds {key} as {kind}, which no weight is"
    return ""


def weights(model: Any, loaded: Mapping[str, Any], *, headless: bool) -> None:
    """Raise FrugalError unless the file held this model's tensors, each of them and no others.

    Nor may a number in them be none, which every score would turn into.

    loaded:   what transformers says of the loading
    headless: it is loaded without its heads, which the file may have
    """
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    missing = sorted(set(loaded["missing_keys"]) - tied)
    odd = sorted(key for key in loaded["unexpected_keys"] if not _NO_WEIGHT.search(key))
    if headless:
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
            raise FrugalError(f"{what} {', '.join(keys[:3])}{more}")
    for key, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            dtype = str(parameter.dtype).removeprefix("torch.")
            raise FrugalError(f"its weights are no finite numbers in {dtype}: {key}")


def tokenizer(tokenizer: Any, model: Any) -> None:
    """Raise FrugalError for a tokenizer that reads nothing, or whose ids have no embedding."""
    try:
        problem = _unread(tokenizer, model.get_input_embeddings().weight.shape[0])
    except Exception as error:  # its files can say anything
        problem = f"its tokenizer's files: {reason(error)}"
    if problem:
        raise FrugalError(problem)


def _unread(tokenizer: Any, rows: int) -> str:
    """What a tokenizer does not do for a model of so many embeddings, or ""."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    if set(ids("Is it read?")) <= {tokenizer.unk_token_id}:
        return "its tokenizer reads no text; are the tokenizer's own files there?"
    if lost := [sign for sign in _SIGNS if not ids(sign)]:
        return f"its tokenizer drops {lost[0]!r} from every text; is its vocabulary whole?"
    # Beyond its text a tokenizer may know signs of an image, which no prompt should hold.
    signs = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    named = {tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id} - {None}
    known = set(tokenizer.get_vocab().values()) - signs | named
    if (most := max(known)) >= rows:
        return (
            f"its tokenizer gives ids up to {most}, its embeddings have {rows} rows; "
            "are they of one model?"
        )
    return ""
