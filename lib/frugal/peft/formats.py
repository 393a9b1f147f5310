"""Adapters on disk: our own layout, Hugging Face peft's, and T-Few's released checkpoints.

Everything is safetensors and JSON; what torch wrote (`.pt`, and the `.bin` of peft before 0.7) is
read with `weights_only=True`. A folder that was written here also holds, in the header of its
tensors, a digest of what it says and a sample of the weights of the model that it belongs to.
"""

import json
import math
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
from frugal.peft import bases, configs, ia3, surgery
from frugal.peft.ia3 import IA3
from frugal.peft.lora import LoRA
from frugal.peft.method import Method
from frugal.peft.parts import METHODS, Part
from frugal.peft.surgery import Projection

OWN = ("frugal_adapter.json", "frugal_adapter.safetensors")
HF = ("adapter_config.json", "adapter_model.safetensors")
_OLD_HF = "adapter_model.bin"
_PREFIX = "base_model.model."  # in front of every name in a peft file
_ABOUT = "frugal"  # our entry in the header of the tensors
# What a configuration says of the function; names of models may be mended by hand.
_MEANING = ("peft_type", "r", "lora_alpha", "use_rslora", "target_modules", "feedforward_modules")
_OWN_FIELDS = {"parts", "model_type", "trainable_params", "base_model_name_or_path"}

Saved = tuple[list[Part], dict[str, Tensor]]


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
    if (hf := _to_hf(methods, parameters)) is not None:
        names, other, (config, tensors) = HF, (*OWN, _OLD_HF), hf
    else:
        names, other = OWN, (*HF, _OLD_HF)
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
    if path.is_file():
        tensors = _unpickled(path)
        _belongs(model, path, {}, None)
        return _from_tfew(model, path, tensors)
    there = [names for names in (OWN, HF) if (path / names[0]).is_file()]
    if len(there) != 1:
        first, second = OWN[0], HF[0]
        reason = f"both {first} and" if there else f"neither {first} nor"
        what = "more than one adapter" if there else "no adapter"
        raise FrugalError(f"{path}: holds {what}; {reason} {second} is there")
    (names,) = there
    config = _object(path / names[0])
    tensors, about = _tensors(path, names[1])
    kind = configs.check(path, config) if names == HF else None
    sample = about.get("base")
    if about and about.get("digest") != _digest(config, tensors, sample):
        raise FrugalError(
            f"{path}: is damaged or was edited: its tensors or options are not what was saved"
        )
    _belongs(model, path, config, sample)
    if kind is None:
        return _from_own(path, config, tensors)
    return _from_hf(model, path, kind, config, tensors)


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
    if name == HF[1] and not file.exists() and (folder / _OLD_HF).is_file():
        return _unpickled(folder / _OLD_HF), {}
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


def _from_own(path: Path, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Saved:
    """Parts and parameters of our own layout."""
    if odd := sorted(set(config) - _OWN_FIELDS):
        raise FrugalError(f"{path}: {odd[0]} is no field of {OWN[0]}")
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


def _to_hf(
    methods: Sequence[Method], parameters: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Config and tensors in the layout of peft; None where it has no place for them."""
    tensors: dict[str, Tensor] = {}
    match methods:
        case [IA3() as method]:
            places = [p for _, p in method.places]
            for name, p in method.places:
                value, at = parameters[name].detach(), f"{_PREFIX}{p.name}.ia3_l"
                if p.role in ia3.ON_INPUT:
                    tensors[at] = value[None, :]
                else:  # slices of one module each fill in theirs
                    whole = p.padded(value, p.module.weight.shape[int(p.conv1d)], 1.0)[:, None]
                    tensors[at] = tensors.get(at, torch.ones_like(whole)) * whole
            in_front = [p.name for p in places if p.role in ia3.ON_INPUT]
            config: dict[str, Any] = {"peft_type": "IA3", "feedforward_modules": in_front}
        case [LoRA() as method] if not any(p.fused for p in method.places):
            places = method.places
            for p in places:
                for ours, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
                    tensors[f"{_PREFIX}{p.name}.{theirs}.weight"] = parameters[f"{p.key}.{ours}"]
            config = {"peft_type": "LORA", "r": method.rank, "lora_alpha": method.alpha}
            config |= {"lora_dropout": 0.0, "bias": "none"}
        case _:
            return None
    config["target_modules"] = list(dict.fromkeys(p.name for p in places))
    config["fan_in_fan_out"] = any(p.conv1d for p in places)
    return config | {"inference_mode": True, "modules_to_save": None, "task_type": None}, tensors


def _from_hf(
    model: nn.Module,
    path: Path,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> Saved:
    """Parts and parameters of a peft folder with (IA)³ or LoRA, whose configuration is plain."""
    found = _Found(model, path)
    parts = ("lora_A.weight", "lora_B.weight") if kind == "LORA" else ("ia3_l",)
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part = next((part for part in parts if key.endswith(f".{part}")), None)
        if part is None or not key.startswith(_PREFIX):
            raise FrugalError(f"{path}: {key} is no tensor of a plain {kind}")
        module = key.removeprefix(_PREFIX).removesuffix(f".{part}")
        modules.setdefault(module, {})[part] = tensor
    named = configs.adapted(path, config, (name for name, _ in model.named_modules()))
    for module in modules:
        found.named(module)
        if module not in named:
            raise FrugalError(f"{path}: has tensors of {module}, which target_modules leaves out")
    for module in sorted(named):
        if missing := [part for part in parts if part not in modules.get(module, {})]:
            raise FrugalError(f"{path}: {module}.{missing[0]} is missing from its tensors")
    if kind == "LORA":
        rank = config["r"]  # rank-stabilised LoRA scales by α / √r
        alpha = config["lora_alpha"] * (math.sqrt(rank) if config.get("use_rslora") else 1)
        for module, own in modules.items():
            p, *_ = projections = found.named(module)
            a, b = (own[part] for part in parts)
            found.shape(f"{module}.lora_A", a, (rank, p.in_features))
            found.shape(f"{module}.lora_B", b, (p.module_features, rank))
            for p in projections:
                found.add(p, f"{p.key}.lora_a", a)
                found.add(p, f"{p.key}.lora_b", b[p.outputs])
        return found.saved("lora", {"rank": rank, "alpha": alpha})
    ones = []
    for module, own in modules.items():
        p, *_ = projections = found.named(module)
        in_front, scale = p.role in ia3.ON_INPUT, own["ia3_l"]
        if configs.in_front(path, config, module) != in_front:
            side = "output" if in_front else "input"
            raise FrugalError(f"{path}: scales the {side} of {module}; here it is the other end")
        shape = (1, p.in_features) if in_front else (p.module_features, 1)
        found.shape(f"{module}.ia3_l", scale, shape)
        for p in projections:
            value = scale.flatten() if in_front else scale[p.outputs].flatten()
            found.add(p, ia3.name_of(p), value)
            if p.fused and p.role == "q" and bool((value == 1).all()):
                ones.append(p)
    if len(ones) == sum(p.fused and p.role == "q" for p in found.on.values()):
        found.drop(ones)  # GPT-2's k and v, which are a matrix with q
    return found.saved("ia3", {})


def _from_tfew(model: nn.Module, path: Path, tensors: Mapping[str, Tensor]) -> Saved:
    """(IA)³ from T-Few's code: `<projection>.multi_lora_b`, (out, 1), on k, v and wi_1.

    A scale of wi_1's output is one of wo's input. That code finds no wi_1 in a feed-forward that is
    not gated, whose wi it would scale in front of the activation: another function.
    """
    found = _Found(model, path)
    last = {layer.up[-1].name: layer.down for layer in found.layers if len(layer.up) > 1}
    for key, tensor in tensors.items():
        module, _, part = key.rpartition(".")
        p = last[module] if module in last else found.named(module)[0]
        if part != "multi_lora_b" or p.fused or not (module in last or p.role in ("k", "v")):
            raise FrugalError(f"{path}: {key} is no (IA)³ vector of T-Few's")
        size = p.in_features if module in last else p.out_features
        found.shape(key, tensor, (size, 1))
        found.add(p, ia3.name_of(p), tensor.flatten())
    parts, weights = found.saved("ia3", {})
    if parts[0].layers is not None:
        raise FrugalError(
            f"{path}: has vectors of {len(parts[0].layers)} of {len(found.layers)} layers"
        )
    return parts, weights


class _Found:
    """Parameters that were found on projections of a model, and the part that has just those."""

    def __init__(self, model: nn.Module, path: Path) -> None:
        self.layers, self.path = surgery.layers(model), path
        self.layer = {p.key: layer.index for layer in self.layers for p in layer.projections()}
        self.projections: dict[str, list[Projection]] = {}
        for layer in self.layers:
            for p in layer.projections():
                self.projections.setdefault(p.name, []).append(p)
        self.weights: dict[str, Tensor] = {}
        self.on: dict[str, Projection] = {}

    def named(self, module: str) -> list[Projection]:
        if module not in self.projections:
            raise FrugalError(
                f"{self.path}: does not fit this model; {module!r} is none of its attention and "
                "feed-forward projections"
            )
        return self.projections[module]

    def shape(self, name: str, value: Tensor, expected: tuple[int, ...]) -> None:
        if tuple(value.shape) != expected:
            raise FrugalError(
                f"{self.path}: does not fit this model; {name} has shape {tuple(value.shape)}, "
                f"not {expected}"
            )

    def add(self, projection: Projection, name: str, value: Tensor) -> None:
        self.weights[name], self.on[projection.key] = value, projection

    def drop(self, projections: Sequence[Projection]) -> None:
        for p in projections:
            del self.weights[ia3.name_of(p)], self.on[p.key]

    def saved(self, method: str, options: dict[str, Any]) -> Saved:
        """Where not all roles or layers are there, the part says so."""
        if not self.on:
            raise FrugalError(f"{self.path}: holds no parameters")
        roles = [r for r in surgery.ROLES if any(p.role == r for p in self.on.values())]
        usual: Any = METHODS[method]().targets  # type: ignore[attr-defined]
        if set(roles) != set(usual):
            options["targets"] = roles
        layers = sorted({self.layer[key] for key in self.on})
        on = None if len(layers) == len(self.layers) else layers
        return [Part(method, options, on)], self.weights
