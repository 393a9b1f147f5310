"""An architecture read off a transformers configuration, and proved on the model it describes.

The model is built without numbers (`costs.layers`). Its matrices, layer by layer, must be those of
one closed form; everything else it holds is listed as it is. Then it is run: parameters, FLOPs of
a forward pass, with and without a cache, and of a training step must be those that the closed form
gives. What differs has none, and is refused.

Needs torch and transformers, which it imports when it is called: `arch.from_config` is its door.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from frugal.costs import flops, layers
from frugal.costs.arch import Architecture, Kind
from frugal.costs.families import KNOWN
from frugal.errors import FrugalError, reason, unknown

POSITIONS = ("max_position_embeddings", "max_seq_len")
SHORT, LONG = 5, 4099  # tokens of a trial: LONG is beyond most windows
LAYERS = 8  # of a trial: layers of one class are alike, and their kinds take turns in fewer


def kind_of(config: Any) -> Kind:
    """Whether a configuration is of a causal language model, an encoder–decoder or an encoder.

    What transformers' own tables of classes say of its model type; where a type can be two things
    (BERT), what `architectures` or `is_decoder` say. FrugalError where neither tells, or the model
    is none of the three.
    """
    from frugal.internals import modeling_auto as tables

    name = str(getattr(config, "model_type", None))
    classes = set(getattr(config, "architectures", None) or ())
    causal = tables.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(name)
    answers = tables.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.get(name)
    encodes = (
        name in tables.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        or name in tables.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
    )
    if name not in tables.MODEL_MAPPING_NAMES and not (causal or answers):
        raise unknown("model type", name, tables.MODEL_MAPPING_NAMES)
    if getattr(config, "is_encoder_decoder", False):
        if answers is None:
            raise FrugalError(f"{name}: an encoder–decoder that does not answer text with text")
        return "encoder-decoder"
    if causal and not encodes:
        return "decoder-only"
    if causal and (classes & {causal} or getattr(config, "is_decoder", False)):
        return "decoder-only"
    if encodes and not getattr(config, "is_decoder", False):
        return "encoder-only"
    raise FrugalError(f"{name}: neither a language model nor an encoder of text")


def architecture(config: Any) -> Architecture:
    """The architecture of a configuration; FrugalError, with the reason, where it has none."""
    kind = kind_of(config)
    name = str(getattr(config, "name_or_path", "") or config.model_type)
    key = _Key(f"{type(config).__name__} {config.to_json_string(use_diff=False)}", config)
    found = _found(key, kind)
    if isinstance(found, str):
        raise FrugalError(f"{name}: no closed form of its costs: {found}")
    return found.replace(name=name)


class _Key(NamedTuple):
    """A configuration by its text, since it cannot be hashed."""

    text: str
    config: Any

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.text == other.text


@lru_cache(maxsize=256)
def _found(key: _Key, kind: Kind) -> Architecture | str:
    """The architecture, or why there is none."""
    config = key.config
    try:
        model = layers.skeleton(config, kind)
        params = sum(p.numel() for p in model.parameters())
        if config.model_type in KNOWN:
            found = KNOWN[config.model_type](config)
            if found.params == params and found.kind == kind:
                return found
        found = layers.read(config, kind, model)
        if found.params != params:
            raise FrugalError(f"it has {params} parameters, the closed form {found.params}")
        stacks = layers.stacks_of(model)
        for stack in stacks:
            del stack[LAYERS - 1 : -1]
        found = found.replace(**_gradients(found, model, stacks))
        kept = dict(zip(("layers", "decoder_layers"), map(len, stacks), strict=False))
        _prove(found.replace(**kept), model)
    except Exception as error:
        # Whatever transformers raises on a configuration, a model that cannot be tried has no form.
        return reason(error)
    return found


class _Stop(Exception):
    """Ends a run at the first matrix."""


def _gradients(a: Architecture, model: Any, stacks: list[Any]) -> dict[str, bool]:
    """What lies below what: which matrices of a first layer read what a trained part changes."""

    def run(number: int, trained: Iterable[Any], stop: bool) -> list[tuple[Any, bool]]:
        """Matrices of the first layer in the order they run, and whether a gradient is below."""
        model.requires_grad_(False)
        for p in trained:
            p.requires_grad_(True)
        seen: list[tuple[Any, bool]] = []

        def hook(module: Any, inputs: Any) -> None:
            seen.append((module, inputs[0].requires_grad))
            if stop:
                raise _Stop

        matrices = [m.module for m in layers.matrices_of(stacks[number][0])]
        hooks = [m.register_forward_pre_hook(hook) for m in matrices]
        try:
            _call(a, model, SHORT, SHORT)
        except _Stop:
            pass
        finally:
            for h in hooks:
                h.remove()
        if not stop and sorted(id(m) for m, _ in seen) != sorted(map(id, matrices)):
            raise FrugalError("a matrix of its first layer does not run once")
        return seen

    norms = [p for m in filter(layers.is_norm, model.modules()) for p in m.parameters()]
    found = []
    for number, stack in enumerate(stacks):
        ((first, norm),) = run(number, norms, stop=True)
        ((_, shift),) = run(number, layers.norm_shifts(stack[0]), stop=True)
        below = [needs for _, needs in run(number, [first.weight], stop=False)]
        # Queries, keys and values read what lies below, and so do those of the encoder's states.
        free, apart = below.count(False), (1 if a.fused else 3) + 2 * number
        feed_forward = len(below) - apart - 1 - 2 * number
        if free not in (apart, apart + feed_forward):
            raise FrugalError("attention and feed-forward stand in an unknown order")
        found.append({"parallel": free > apart, "norm_first": norm, "shift_first": shift})
    if found.count(found[0]) != len(found):
        raise FrugalError("its encoder and its decoder are built in different ways")
    return found[0]


def _call(
    a: Architecture, model: Any, prompt: int, target: int, cached: int = 0, **more: Any
) -> Any:
    """The model's output on made-up tokens."""
    import torch

    def ids(tokens: int) -> Any:
        return torch.zeros(1, tokens, dtype=torch.long, device="meta")

    inputs: dict[str, Any] = {"input_ids": ids(prompt)}
    if a.kind == "decoder-only":  # some look for padding where they are given no mask
        inputs["attention_mask"] = ids(cached + prompt)
    if a.decoder_layers:
        inputs |= {"decoder_input_ids": ids(target), "use_cache": False}
    return model(**inputs, **more)


def _prove(a: Architecture, model: Any) -> None:
    """Raise FrugalError unless the FLOPs are the model's."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from frugal import internals

    def same(what: str, parts: flops.Parts, run: Callable[[], Any]) -> Any:
        with FlopCounterMode(display=False) as counter:
            found = run()
        if (truth := counter.get_total_flops()) != (mine := sum(parts.values())):
            raise FrugalError(f"{what} takes {truth} FLOPs, by the closed form {mine}")
        return found

    config = getattr(model.config, "encoder", model.config)
    bounds = (getattr(config, field, None) for field in POSITIONS)
    least = min((n for n in bounds if isinstance(n, int)), default=LONG)
    longest = max(SHORT, min(LONG, least - 8))  # some tables begin with padding
    target, new = SHORT + 2, 3
    fed: dict[str, Any] = {"target_tokens": target} if a.decoder_layers else {}
    with torch.no_grad():
        parts = flops.forward(a, prompt_tokens=longest, **fed)
        out = same("a long text", parts, lambda: _call(a, model, longest, target))
        context = SHORT if a.window else longest
        if a.kind == "decoder-only" and (not a.window or context + new <= a.window):
            out = _call(a, model, SHORT, 0) if a.window else out
            parts = flops.forward(a, prompt_tokens=new, context_tokens=context)
            cache = internals.cache_named(model, internals.cache_made(out)) | {"use_cache": True}
            same("a cached text", parts, lambda: _call(a, model, new, 0, context, **cache))

    def train() -> None:
        out = _call(a, model, SHORT, target)
        states = out.logits if a.kind != "encoder-only" else out[int(a.pooler)]
        states.sum().backward()

    model.requires_grad_(True)
    same("a training step", flops.train_step(a, prompt_tokens=SHORT, **fed), train)
