"""Which configurations of Hugging Face's peft mean here what they mean there.

For each method, every field that may be set, and the values at which the adapter is plain: (IA)³,
or W + (α/r) B A on the model as it is. Everything else is refused by name: variants that compute
something else (DoRA, aLoRA, KaSA, …), starts that change the model's own weights (PiSSA, OLoRA,
CorDA, LoRA-GA, LoftQ; peft's own conversion of the first four gives a plain LoRA, which loads),
ranks that differ by module, and whatever a later peft may add. Of fields that are unknown only what
is clearly absent may stand: null, an empty list or mapping, and a `use_…` that is false. (A bare
`false` may be what turns something off that is on by default.)
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frugal.errors import FrugalError

Names = str | list[str]  # a regular expression, or names
Off = Literal[False] | None
Whole = Annotated[int, Field(gt=0, lt=2**31)]


class Common(BaseModel):
    """What may be set for both methods, at the values at which an adapter is plain."""

    model_config = ConfigDict(strict=True)

    peft_type: str
    target_modules: Names
    peft_version: str | None = None
    base_model_name_or_path: str | None = None  # compared with the model's
    revision: str | None = None
    auto_mapping: dict[str, Any] | None = None
    inference_mode: bool | None = None
    # A task with a head of its own (SEQ_CLS, …) brings a head.
    task_type: Literal["CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"] | None = None
    exclude_modules: Names | None = None
    fan_in_fan_out: bool | None = None  # how weights are stored; peft corrects it by the module


class PlainIA3(Common):
    """(IA)³ of peft."""

    feedforward_modules: Names
    init_ia3_weights: bool | None = None


class PlainLoRA(Common):
    """LoRA of peft."""

    r: Whole
    lora_alpha: Annotated[float, Field(gt=-1e30, lt=1e30)]
    use_rslora: bool | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of training alone
    bias: Literal["none"] = "none"
    # Starts that leave the model's own weights as they are.
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "eva"] = True
    eva_config: dict[str, Any] | None = None  # how the start was found
    layers_to_transform: int | list[int] | None = None
    layers_pattern: Names | None = None
    megatron_core: str | None = None  # read with megatron_config alone
    qalora_group_size: Whole = 16  # read with use_qalora alone
    lora_bias: Off = None
    ensure_weight_tying: Off = None
    merge_weights: Off = None  # of peft before 0.3


KINDS: dict[str, type[Common]] = {"IA3": PlainIA3, "LORA": PlainLoRA}


def check(path: Path, config: Mapping[str, Any]) -> str:
    """The method of a configuration, "IA3" or "LORA"; FrugalError that names what is not plain."""
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise FrugalError(f"{path}: peft_type is {kind!r}, not IA3 or LORA")
    wrong, missing, odd = set(), [], []
    try:
        KINDS[kind].model_validate(config)
    except ValidationError as error:
        wrong = {problem["loc"][0] for problem in error.errors()}
        missing = [str(field) for field in wrong if field not in config]
    for field, value in config.items():
        absent = value in (None, [], {}) or (field.startswith("use_") and value is False)
        if field in wrong or not (field in KINDS[kind].model_fields or absent):
            shown = repr(value)
            odd.append(f"{field} = {shown if len(shown) < 60 else shown[:60] + '…'}")
    if odd:
        raise FrugalError(f"{path}: {', '.join(odd)} is not supported; only plain {kind} is")
    if missing:
        raise FrugalError(f"{path}: says nothing of {', '.join(sorted(missing))}")
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
