"""Adapters on disk: files and folders, whole and of this model, whichever layout they have.

Our own layout is here; Hugging Face peft's is in `hf`, T-Few's released vectors in `released`.

Everything is safetensors and JSON; what torch wrote (`.pt`, and the `.bin` of peft before 0.7) is
read with `weights_only=True`. A folder that was written here also holds, in the header of its
tensors, a digest of what it says and a sample of the weights of the model that it belongs to.
"""

import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from frugal.engine import digests, files
from frugal.errors import FrugalError, FrugalWarning, reason
from frugal.peft import bases, hf, released, surgery
from frugal.peft.found import Saved
from frugal.peft.method import Method
from frugal.peft.parts import Part

OWN = ("frugal_adapter.json", "frugal_adapter.safetensors")
_ABOUT = "frugal"  # our entry in the header of the tensors
# What a configuration says of the function; names of models may be mended by hand.
_MEANING = ("peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "feedforward_modules")
_OWN_FIELDS: dict[str, type] = {
    "parts": list,
    "model_type": str,
    "trainable_params": int,
    "base_model_name_or_path": str,
}


def write(
    folder: Path,
    model: nn.Module,
    parts: Sequence[Part],
    methods: Sequence[Method],
    parameters: Mapping[str, Tensor],
    base: Tensor | None,
) -> Path:
    """Write `parameters` of the methods into `folder`, the config last; what lay there is gone.

    base: a sample of the model's weights, of `bases.sample`
    """
    if (theirs := hf.written(methods, parameters)) is not None:
        names, other, (config, tensors) = hf.FILES, (*OWN, hf.OLD), theirs
    else:
        names, other = OWN, (*hf.FILES, hf.OLD)
        constants = {name: t for m in methods for name, t in m.constants.items()}
        tensors = {**parameters, **constants}
        config = {"parts": [vars(part) for part in parts]}
        config["model_type"] = getattr(getattr(model, "config", None), "model_type", None)
        config["trainable_params"] = sum(p.numel() for p in parameters.values())
    config["base_model_name_or_path"] = bases.name(model) or None
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    sample = None if base is None else bases.encode(base)
    about = {"base": sample, "digest": _digest(config, tensors, sample)}
    with files.staged(folder / names[0]) as said, files.staged(folder / names[1]) as held:
        save_file(tensors, held, metadata={"format": "pt", _ABOUT: json.dumps(about)})
        said.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in other:
        (folder / name).unlink(missing_ok=True)
    return folder


def read(model: nn.Module, path: Path) -> Saved:
    """What lies at `path`, whichever layout it has, as it would be attached to `model`.

    Raises FrugalError, which names `path`, for what is damaged or incomplete, is no plain adapter,
    does not fit the model or was made for another one; a FrugalWarning says where that cannot be
    told.
    """
    from frugal.peft import configs

    if path.is_file():
        tensors = _unpickled(path)
        _belongs(model, path, {}, None)
        return released.read(model, path, tensors)
    there = [names for names in (OWN, hf.FILES) if (path / names[0]).is_file()]
    if len(there) != 1:
        first, second = OWN[0], hf.FILES[0]
        reason = f"both {first} and" if there else f"neither {first} nor"
        what = "more than one adapter" if there else "no adapter"
        raise FrugalError(f"{path}: holds {what}; {reason} {second} is there")
    (names,) = there
    config = _object(path / names[0])
    tensors, about = _tensors(path, names[1])
    kind = None
    if names == hf.FILES:
        kind = configs.check(path, config)
    else:
        _check(path, config)
    sample = about.get("base")
    if about and about.get("digest") != _digest(config, tensors, sample):
        raise FrugalError(
            f"{path}: is damaged or was edited: its tensors or options are not what was saved"
        )
    _belongs(model, path, config, sample)
    if kind is None:
        return _from_own(path, config, tensors)
    return hf.read(model, path, kind, config, tensors)


def _belongs(model: Any, path: Path, config: Mapping[str, Any], sample: Any) -> None:
    """Compare what an adapter says of its model with `model`: by weights, else by name."""
    theirs, mine = config.get("base_model_name_or_path") or "", bases.name(model)
    said = f"{theirs!r}" if theirs else "a model that is not named"
    here = f"{mine!r}" if mine else f"a {type(model).__name__} without a name"
    if sample is not None:
        kept, weights = bases.decode(sample), bases.sample(model, surgery.layers(model))
        if weights is not None and (kept is None or not bases.same(kept, weights)):
            raise FrugalError(
                f"{path}: belongs to {said}, whose weights are not those of this one, {here}"
            )
        return
    kinds = config.get("model_type"), getattr(getattr(model, "config", None), "model_type", None)
    if None not in kinds and kinds[0] != kinds[1]:
        raise FrugalError(f"{path}: belongs to a model of type {kinds[0]}; this one is {kinds[1]}")
    revision = config.get("revision") or "main"
    if not theirs:
        doubt = "does not say which model it belongs to"
    elif revision != "main":
        doubt = f"belongs to revision {revision} of {said}"
    elif bases.alike(theirs, mine):
        return
    else:
        doubt = f"belongs to {said}"
    warnings.warn(
        f"{path}: {doubt}; whether that is this one, {here}, cannot be told",
        FrugalWarning,
        stacklevel=4,
    )


def _digest(config: Mapping[str, Any], tensors: Mapping[str, Tensor], sample: Any) -> str:
    """SHA-256 of what an adapter computes, and of the sample of its model."""

    def plain(value: Any) -> Any:  # peft's sets have no order
        return sorted(value, key=str) if isinstance(value, list) else value or None

    meaning = {key: plain(config.get(key)) for key in _MEANING} | {"parts": config.get("parts")}
    held = (
        part
        for name, tensor in sorted(tensors.items())
        for part in (f"{name} {tensor.dtype} {tuple(tensor.shape)}", digests.raw(tensor))
    )
    return digests.stream([json.dumps([meaning, sample], sort_keys=True), *held])


def _unreadable(path: Path, error: BaseException) -> FrugalError:
    return FrugalError(f"{path}: holds no adapter that can be read ({reason(error)})")


def _object(file: Path) -> dict[str, Any]:
    """A JSON object, of finite numbers."""
    try:
        return files.read_json(file)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def _tensors(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a folder, and our entry in their header, if there is one."""
    file = folder / name
    if name == hf.FILES[1] and not file.exists() and (folder / hf.OLD).is_file():
        return _unpickled(folder / hf.OLD), {}
    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
            if odd := sorted(set(header) - {"format", _ABOUT}):  # ours, if a bit of it turned
                raise ValueError(f"its header has an unknown entry, {odd[0]!r}")
            about = json.loads(header.get(_ABOUT, "{}"))
            if not isinstance(about, dict):
                raise ValueError(f"{_ABOUT} in its header is no JSON object")
            return {key: opened.get_tensor(key) for key in opened.keys()}, about  # noqa: SIM118
    except Exception as error:  # whatever a damaged file makes the parser say
        raise _unreadable(file, error) from error


def _unpickled(file: Path) -> dict[str, Tensor]:
    """The tensors that torch wrote to a file. No code in it runs."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:  # torch itself does not look at the checksums
                if (entry := archive.testzip()) is not None:
                    raise ValueError(f"{entry} is damaged")
        found = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}, not tensors by name")
        for key, value in found.items():
            if not isinstance(key, str) or not isinstance(value, Tensor):
                raise ValueError(f"{key!r} is no tensor with a name")
    except Exception as error:  # whatever a damaged file makes the parser say
        raise _unreadable(file, error) from error
    return {key: value.detach() for key, value in found.items()}


def _check(path: Path, config: Mapping[str, Any]) -> None:
    """Raise FrugalError for a field that our own layout does not have, or of another type."""
    if odd := sorted(set(config) - set(_OWN_FIELDS)):
        raise FrugalError(f"{path}: {odd[0]} is no field of {OWN[0]}")
    for name, kind in _OWN_FIELDS.items():
        if type(config.get(name)) not in (kind, type(None)):  # a bool is no int here
            raise FrugalError(f"{path}: {name} of {OWN[0]} is {config[name]!r}, no {kind.__name__}")


def _from_own(path: Path, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Saved:
    """Parts and parameters of our own layout."""
    parts = config.get("parts")
    if not isinstance(parts, list) or not parts or not tensors:
        raise FrugalError(f"{path}: holds no parameters")
    largest = sum(t.numel() for t in tensors.values())
    found = []
    for part in parts:
        if not isinstance(part, dict) or set(part) != {"method", "options", "layers"}:
            raise FrugalError(f"{path}: {part!r} is no part of an adapter")
        found.append(one := Part(**part))
        for option, value in one.options.items():  # before anything of that size is made
            if option != "seed" and isinstance(value, int) and value > largest:
                raise FrugalError(f"{path}: {option} = {value} does not fit its {largest} values")
    return found, tensors
