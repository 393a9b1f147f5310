"""An architecture read off a transformers configuration, and proved on the model it describes.

The model is built on the meta device, where tensors have shapes and no numbers. Its matrices, layer
by layer, must be those of one closed form; everything else it holds is listed as it is. Then it is
run: parameters, FLOPs of a forward pass, with and without a cache, and of a training step must be
those that the closed form gives. What differs has none, and is refused.

Needs torch and transformers, which it imports when it is called: `arch.from_config` is its door.
"""

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from frugal.costs import flops
from frugal.costs.arch import Architecture, Family, Kind, Tensors
from frugal.errors import FrugalError, reason, unknown

# The transformers class that builds, and loads, a model of each kind.
AUTO = {
    "decoder-only": "AutoModelForCausalLM",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "encoder-only": "AutoModel",
}
FAMILIES: dict[Kind, Family] = {
    "decoder-only": "decoder",
    "encoder-decoder": "seq2seq",
    "encoder-only": "encoder",
}
POSITIONS = ("max_position_embeddings", "max_seq_len")
SHORT, LONG = 5, 4099  # tokens of a trial: LONG is beyond most windows
LAYERS = 8  # of a trial: layers of one class are alike, and their kinds take turns in fewer


def kind_of(config: Any) -> Kind:
    """Whether a configuration is of a causal language model, an encoder–decoder or an encoder.

    What transformers' own tables of classes say of its model type; where a type can be two things
    (BERT), what `architectures` or `is_decoder` say. FrugalError where neither tells, or the model
    is none of the three.
    """
    from transformers.models.auto import modeling_auto as tables

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
        model = _skeleton(config, kind)
        params = sum(p.numel() for p in model.parameters())
        if config.model_type in KNOWN:
            found = KNOWN[config.model_type](config)
            if found.params == params and found.kind == kind:
                return found
        found = _read(config, kind, model)
        if found.params != params:
            raise FrugalError(f"it has {params} parameters, the closed form {found.params}")
        stacks = _stacks(model)
        for stack in stacks:
            del stack[LAYERS - 1 : -1]
        found = found.replace(**_gradients(found, model, stacks))
        kept = dict(zip(("layers", "decoder_layers"), map(len, stacks), strict=False))
        _prove(found.replace(**kept), model)
    except Exception as error:
        # Whatever transformers raises on a configuration, a model that cannot be tried has no form.
        return reason(error)
    return found


def _skeleton(config: Any, kind: Kind) -> Any:
    """The model of the configuration, without numbers."""
    import torch
    import transformers
    from transformers.initialization import no_init_weights

    auto = getattr(transformers, AUTO[kind])
    with torch.device("meta"), no_init_weights():
        model = auto.from_config(
            copy.deepcopy(config), attn_implementation="eager", trust_remote_code=False
        ).eval()
    model.tie_weights()  # which transformers takes for a part of drawing numbers
    return model


class _Matrix(NamedTuple):
    """A linear map of a layer: the module, and its shape as (out, in)."""

    module: Any
    shape: tuple[int, int]


def _matrices(root: Any) -> list[_Matrix]:
    """The linear maps below `root`, in order."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    found = []
    for module in root.modules():
        if isinstance(module, Conv1D):  # stored (in, out)
            columns, rows = module.weight.shape
            found.append(_Matrix(module, (rows, columns)))
        elif isinstance(module, nn.Linear):
            rows, columns = module.weight.shape
            found.append(_Matrix(module, (rows, columns)))
    return found


def _stacks(model: Any) -> list[Any]:
    """The lists of layers, outermost ones alone, encoder before decoder."""
    from torch import nn

    found: list[tuple[str, Any]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{other}.") for other, _ in found)
        if isinstance(module, nn.ModuleList) and not inside and _matrices(module):
            found.append((name, module))
    return [module for _, module in found]


class _Block(NamedTuple):
    """How a layer's matrices make attention and feed-forward."""

    kv_heads: int
    head_size: int
    d_ff: int
    gated: bool
    fused: bool


def _blocks(shapes: list[tuple[int, int]], d: int, heads: int, cross: bool) -> Iterator[_Block]:
    """Every reading of these matrices as one layer."""
    for kv_heads, fused in itertools.product(range(heads, 0, -1), (False, True)):
        if heads % kv_heads:
            continue
        # Queries give their width to the output projection, (d, d_q).
        for d_q in {columns for rows, columns in shapes if rows == d}:
            if d_q % heads:
                continue
            d_kv = d_q // heads * kv_heads
            apart = [(d_q, d), (d_kv, d), (d_kv, d), (d, d_q)]
            attention = [(d_q + 2 * d_kv, d), (d, d_q)] if fused else apart
            left = Counter(shapes)
            left.subtract(attention + apart * cross)
            if min(left.values()) < 0:
                continue
            rest = sorted((+left).elements())
            for d_ff in {columns for rows, columns in rest if rows == d}:
                found = (kv_heads, d_q // heads, d_ff)
                if rest == sorted([(d_ff, d), (d, d_ff)]):
                    yield _Block(*found, gated=False, fused=fused)
                if rest == sorted([(d_ff, d), (d_ff, d), (d, d_ff)]):
                    yield _Block(*found, gated=True, fused=fused)
                if rest == sorted([(2 * d_ff, d), (d, d_ff)]):
                    yield _Block(*found, gated=True, fused=fused)


def _read(config: Any, kind: Kind, model: Any) -> Architecture:
    """The closed form that the fields and the matrices suggest."""
    from torch import nn

    d, heads = config.hidden_size, config.num_attention_heads
    stacks = _stacks(model)
    if len(stacks) != (2 if kind == "encoder-decoder" else 1):
        raise FrugalError(f"{len(stacks)} stacks of layers")
    read = [_block_of(stack, d, heads, cross=bool(number)) for number, stack in enumerate(stacks)]
    block = read[0]
    if any(other != block for other in read):
        raise FrugalError("the decoder's layers have other sizes than the encoder's")

    head = None if kind == "encoder-only" else model.get_output_embeddings()
    if kind != "encoder-only" and not isinstance(head, nn.Linear):
        raise FrugalError("no matrix gives the vocabulary")
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    tokens = model.get_input_embeddings()
    own = [m.module for stack in stacks for layer in stack for m in _matrices(layer)]
    outside = [m for m in _matrices(model) if not any(m.module is o for o in own)]
    pooler = getattr(getattr(model, "pooler", None), "dense", None)
    for m in outside:
        if m.module is not head and m.module is not pooler:
            raise FrugalError(f"it has a matrix of shape {m.shape} outside its layers")
    sizes = (getattr(config, field, None) for field in ("sliding_window", "window_size"))
    windows = [size for size in sizes if isinstance(size, int) and size > 0]
    return Architecture(
        name=config.model_type,
        family=FAMILIES[kind],
        layers=len(stacks[0]),
        decoder_layers=len(stacks[1]) if len(stacks) > 1 else 0,
        d_model=d,
        heads=heads,
        kv_heads=block.kv_heads,
        head_size=block.head_size,
        d_ff=block.d_ff,
        gated=block.gated,
        fused=block.fused,
        vocabulary=head.out_features if head is not None else tokens.num_embeddings,
        tied=head is None or any(head.weight is t.weight for t in tables),
        pooler=pooler is not None,
        others=_others(model, pooler),
        shifts=_shifts(stacks),
        window=min(windows, default=0),
    )


def _block_of(stack: Any, d: int, heads: int, cross: bool) -> _Block:
    """The one reading of all layers of a stack."""
    shapes = [[m.shape for m in _matrices(layer)] for layer in stack]
    if any(sorted(other) != sorted(shapes[0]) for other in shapes):
        raise FrugalError("its layers are not alike")
    found = next(_blocks(shapes[0], d, heads, cross), None)
    if found is None:
        raise FrugalError(f"a layer of matrices {shapes[0]} is no attention and feed-forward")
    return found


def _others(model: Any, pooler: Any) -> tuple[Tensors, ...]:
    """Every parameter beside the matrices: tables, norms, biases."""
    from torch import nn

    found: Counter[tuple[str, tuple[int, ...]]] = Counter()
    matrices = [m.module for m in _matrices(model)]
    tokens, head = model.get_input_embeddings(), model.get_output_embeddings()
    seen: set[int] = set()
    for name, module in model.named_modules():
        for key, p in module.named_parameters(recurse=False):
            if id(p) in seen or module is pooler:
                continue
            seen.add(id(p))
            linear = any(module is m for m in matrices)
            if isinstance(module, nn.Embedding):
                rows = module is tokens or len(p) == tokens.num_embeddings
                kind = "tokens" if rows else "types" if "type" in name else "positions"
                part = f"embedding/{kind}"
            elif linear and key == "weight":
                continue
            elif p.dim() > 1:
                raise FrugalError(f"{name}.{key}, {tuple(p.shape)}, is no matrix of a known kind")
            elif linear:
                part = "vocabulary" if module is head else "biases"
            else:
                part = "norms" if _is_norm(module) else "scales"
            found[part, tuple(p.shape)] += 1
    return tuple((part, count, shape) for (part, shape), count in found.items())


def _is_norm(module: Any) -> bool:
    return "Norm" in type(module).__name__


def _norm_shifts(layer: Any) -> list[Any]:
    """The shifts of the norms below `layer`."""
    norms = filter(_is_norm, layer.modules())
    return [b for b in (getattr(m, "bias", None) for m in norms) if b is not None]


def _shifts(stacks: list[Any]) -> tuple[Tensors, ...]:
    sizes = Counter(
        tuple(b.shape) for stack in stacks for layer in stack for b in _norm_shifts(layer)
    )
    return tuple(("norms", count, shape) for shape, count in sizes.items())


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

        matrices = [m.module for m in _matrices(stacks[number][0])]
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

    norms = [p for m in filter(_is_norm, model.modules()) for p in m.parameters()]
    found = []
    for number, stack in enumerate(stacks):
        ((first, norm),) = run(number, norms, stop=True)
        ((_, shift),) = run(number, _norm_shifts(stack[0]), stop=True)
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
            cache = {"use_cache": True, "past_key_values": out.past_key_values}
            same("a cached text", parts, lambda: _call(a, model, new, 0, context, **cache))

    def train() -> None:
        out = _call(a, model, SHORT, target)
        states = out.logits if a.kind != "encoder-only" else out[int(a.pooler)]
        states.sum().backward()

    model.requires_grad_(True)
    same("a training step", flops.train_step(a, prompt_tokens=SHORT, **fed), train)


# Families whose FLOPs the tests prove for all sizes: here their parameters are compared alone.
def _t5(config: Any) -> Architecture:
    return Architecture(
        name=config.model_type,
        family="t5",
        layers=config.num_layers,
        decoder_layers=config.num_decoder_layers,
        d_model=config.d_model,
        heads=config.num_heads,
        kv_heads=config.num_heads,
        head_size=config.d_kv,
        d_ff=config.d_ff,
        vocabulary=config.vocab_size,
        gated=config.is_gated_act,
        tied=config.tie_word_embeddings,
        position_buckets=config.relative_attention_num_buckets,
    )


def _llama(config: Any) -> Architecture:
    return Architecture(
        name=config.model_type,
        family="llama",
        layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        d_ff=config.intermediate_size,
        vocabulary=config.vocab_size,
        gated=True,
        tied=config.tie_word_embeddings,
        qkv_bias=config.attention_bias,
        out_bias=config.attention_bias,
        ffn_bias=config.mlp_bias,
    )


def _gpt2(config: Any) -> Architecture:
    return Architecture(
        name=config.model_type,
        family="gpt2",
        layers=config.n_layer,
        d_model=config.n_embd,
        heads=config.n_head,
        kv_heads=config.n_head,
        head_size=config.n_embd // config.n_head,
        d_ff=config.n_inner or 4 * config.n_embd,
        vocabulary=config.vocab_size,
        tied=config.tie_word_embeddings,
        positions=config.n_positions,
        qkv_bias=True,
        out_bias=True,
        ffn_bias=True,
        fused=True,
        shift_first=True,
    )


def _bert(config: Any) -> Architecture:
    return Architecture(
        name=config.model_type,
        family="bert",
        layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        d_ff=config.intermediate_size,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        pooler=True,
        qkv_bias=True,
        out_bias=True,
        ffn_bias=True,
    )


def _bert2bert(config: Any) -> Architecture:
    reads, answers = config.encoder, config.decoder
    if {reads.model_type, answers.model_type} != {"bert"}:
        raise FrugalError(f"{reads.model_type} and {answers.model_type} are not two BERTs")
    encoder, decoder = _bert(reads), _bert(answers)
    same = encoder.replace(layers=decoder.layers, name=decoder.name)
    if same != decoder:
        raise FrugalError("the two BERTs must differ in their layers alone")
    return encoder.replace(
        name=config.model_type, family="bert2bert", decoder_layers=decoder.layers
    )


KNOWN: dict[str, Callable[[Any], Architecture]] = {
    "t5": _t5,
    "mt5": _t5,
    "llama": _llama,
    "gpt2": _gpt2,
    "bert": _bert,
    "roberta": _bert,
    "encoder-decoder": _bert2bert,
}
