"""Which configurations of Hugging Face's peft mean here what they mean there.

For each method, every field that may be set, and the values at which the adapter is plain: (IA)³,
or W + (α/r) B A on the model as it is. Everything else is refused by name: variants that compute
something else (DoRA, aLoRA, KaSA, …), starts that change the model's own weights (PiSSA, OLoRA,
CorDA, LoRA-GA, LoftQ; peft's own conversion of the first four gives a plain LoRA, which loads),
ranks that differ by module, and whatever a later peft may add. Of fields that are unknown only what
is clearly absent may stand: null, an empty list or mapping, and a `use_…` that is false. (A bare
`false` may be what turns something off that is on by default.)
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from frugal.errors import FrugalError

Allowed = Callable[[Any], bool]


def _absent(value: Any) -> bool:
    return value is None or value == [] or value == {}


def _off(value: Any) -> bool:
    return value is None or value is False


def _flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _mapping(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 1e30
        and math.isfinite(value)
    )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _one_of(*values: Any) -> Allowed:
    return lambda value: any(type(value) is type(v) and value == v for v in values)


def _names(value: Any) -> bool:
    """A regular expression, or names."""
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(v, str) for v in value)
    )


def _names_or_none(value: Any) -> bool:
    return value is None or _names(value)


def _indices(value: Any) -> bool:
    several = value if isinstance(value, list) else [value]
    return value is None or all(isinstance(v, int) and not isinstance(v, bool) for v in several)


_COMMON: dict[str, Allowed] = {
    "peft_type": _text,
    "peft_version": _text,
    "base_model_name_or_path": _text,  # compared with the model's
    "revision": _text,
    "auto_mapping": _mapping,
    "inference_mode": _flag,
    # A task with a head of its own (SEQ_CLS, …) brings a head.
    "task_type": _one_of(None, "CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"),
    "target_modules": _names,
    "exclude_modules": _names_or_none,
    "modules_to_save": _absent,
    "fan_in_fan_out": _flag,  # how weights are stored; peft corrects it by the module
}
_KINDS: dict[str, dict[str, Allowed]] = {
    "IA3": {"feedforward_modules": _names, "init_ia3_weights": _flag},
    "LORA": {
        "r": _whole,
        "lora_alpha": _number,
        "use_rslora": _flag,
        "lora_dropout": lambda value: _number(value) and 0 <= value < 1,  # of training alone
        "bias": _one_of("none"),
        # Starts that leave the model's own weights as they are.
        "init_lora_weights": _one_of(True, False, "gaussian", "orthogonal", "eva"),
        "eva_config": _mapping,  # how the start was found
        "layers_to_transform": _indices,
        "layers_pattern": _names_or_none,
        "megatron_core": _text,  # read with megatron_config alone
        "qalora_group_size": _whole,  # read with use_qalora alone
        "lora_bias": _off,
        "ensure_weight_tying": _off,
        "merge_weights": _off,  # of peft before 0.3
    },
}
_NEEDED = {
    "IA3": ("target_modules", "feedforward_modules"),
    "LORA": ("r", "lora_alpha", "target_modules"),
}


def check(path: Path, config: Mapping[str, Any]) -> str:
    """The method of a configuration, "IA3" or "LORA"; FrugalError that names what is not plain."""
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise FrugalError(f"{path}: peft_type is {kind!r}, not IA3 or LORA")
    allowed = _COMMON | _KINDS[kind]
    odd = []
    for field, value in config.items():
        absent = _absent(value) or (field.startswith("use_") and value is False)
        if not (allowed[field](value) if field in allowed else absent):
            shown = repr(value)
            odd.append(f"{field} = {shown if len(shown) < 60 else shown[:60] + '…'}")
    if odd:
        raise FrugalError(f"{path}: {', '.join(odd)} is not supported; only plain {kind} is")
    if missing := [field for field in _NEEDED[kind] if field not in config]:
        raise FrugalError(f"{path}: says nothing of {', '.join(missing)}")
    return kind


def adapted(path: Path, config: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Those of the modules called `names` that peft adapts under a configuration that is plain.

    Source: `check_target_module_exists` of peft 0.21.
    """
    targets, exclude = config["target_modules"], config.get("exclude_modules")
    try:
        return (
            {n for n in names if not (exclude and _named(exclude, n)) and _is_target(config, n)}
            if targets
            else set()
        )
    except (re.error, RecursionError, OverflowError) as error:
        raise FrugalError(f"{path}: a pattern of module names cannot be read ({error})") from error


def in_front(path: Path, config: Mapping[str, Any], name: str) -> bool:
    """Whether (IA)³ of peft scales the input of the module `name`."""
    modules = config["feedforward_modules"]
    try:
        if isinstance(modules, str):
            return re.fullmatch(modules, name) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise FrugalError(f"{path}: feedforward_modules cannot be read ({error})") from error
    return name.endswith(tuple(modules))


def _named(pattern: str | list[str], name: str) -> bool:
    if isinstance(pattern, str):
        return re.fullmatch(pattern, name) is not None
    return name in pattern or name.endswith(tuple(f".{p}" for p in pattern))


def _is_target(config: Mapping[str, Any], name: str) -> bool:
    targets, layers = config["target_modules"], config.get("layers_to_transform")
    if isinstance(targets, str) or name in targets or layers is None or layers == []:
        return _named(targets, name)
    patterns = config.get("layers_pattern") or r"[^.]*"
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        front = r".*?\." if not config.get("layers_pattern") else r"(?:^|.*?\.)"
        if found := re.match(rf"{front}{pattern}\.(?P<idx>\d+)\.", name):
            chosen = layers if isinstance(layers, list) else [layers]
            return int(found["idx"]) in chosen and _named(targets, name)
    return False
