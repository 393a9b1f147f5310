"""Prefix tuning and prompt tuning: a few positions that are trained, in front of the text.

Prefix tuning (Li & Liang, ACL 2021): every attention of the layers sees P more keys and values,

    softmax(Q [P_k; K]ᵀ / √d_k) [P_v; V]

of self- and cross-attention, each with its own. They have no position: rotary and relative
positions are those of the text alone. With `mlp`, P_k and P_v come from a network that is trained
in their place, tanh(E W_1 + b_1) W_2 + b_2 with E and W_1 shared by all layers of a kind, as in
T-Few's code; its count of 576K is that of P_k and P_v alone.

Prompt tuning (Lester et al., EMNLP 2021): P trained vectors in front of the embedded input, of the
encoder and of the decoder, as in T-Few. The positions of the text move up by P.

Masks may be whatever the model takes: of padding, or (rows, 1, queries, keys), boolean or added.
"""

import copy
import inspect
import math
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from frugal.errors import FrugalError
from frugal.internals import cache_given, cache_named
from frugal.peft import method
from frugal.peft.method import Handle, Method, Pick
from frugal.peft.surgery import Attention, Projection

_NAME = "frugal_prefix"


@dataclass(eq=False, kw_only=True)
class Prefix(Method):
    """`<attention>.prefix_k` and `.prefix_v` (P, out features of k, v); with `mlp` what makes them.

    They start as the keys and values that the model has for P random frequent tokens (T-Few takes
    those of "Question:" and "Answer:", and fits its network to them; here that starts at random).

    tokens: P; mlp: width of the network, 512 in T-Few, or None to train the prefixes themselves
    """

    tokens: int = 2
    mlp: int | None = None

    def build(self) -> None:
        method.whole("tokens", self.tokens)
        self.kinds: dict[str, str] = {}
        for layer in self.layers:
            for a in layer.attentions:
                d, like = a.q.in_features, a.k.module.weight
                shape = (self.tokens, a.k.out_features)
                if self.mlp is None:
                    for part in ("prefix_k", "prefix_v"):
                        self.parameters[f"{a.name}.{part}"] = method.full(shape, 0.0, like)
                    continue
                kind = f"{layer.stack}.{'cross' if a.cross else 'self'}.prefix".lstrip(".")
                self.kinds[a.name] = kind
                if f"{kind}.embedding" not in self.parameters:
                    width = method.whole("mlp", self.mlp)
                    start = method.normal((self.tokens, d), 1.0, like)
                    self.parameters[f"{kind}.embedding"] = start
                    self._linear(f"{kind}.w1", d, width, like)
                self._linear(f"{a.name}.prefix.w2", self.mlp, 2 * a.k.out_features, like)

        if self.mlp is None and not like.is_meta:
            self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Take the keys and values of some tokens, from one run of the model."""

        def keep(p: Projection, start: Tensor) -> Handle:
            def hook(module: Any, args: Any, output: Tensor) -> None:
                start.copy_(output[..., p.outputs].flatten(0, 1)[: self.tokens])

            return p.module.register_forward_hook(hook)

        model: Any = self.model
        length = min(self.tokens, 16)  # of a row: a model may have fewer positions than `tokens`
        rows = math.ceil(self.tokens / length)
        ids = frequent(model.get_input_embeddings().weight, rows * length).view(rows, length)
        decoder = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
        handles = []
        for a in (a for layer in self.layers for a in layer.attentions):
            handles += [keep(p, s) for p, s in zip((a.k, a.v), self.of(a.name), strict=True)]
        try:
            model(input_ids=ids, **decoder)
        finally:
            for handle in handles:
                handle.remove()

    def _linear(self, name: str, inputs: int, outputs: int, like: Tensor) -> None:
        self.parameters[name] = method.normal((outputs, inputs), inputs**-0.5, like)
        self.parameters[f"{name}_bias"] = method.full((outputs,), 0.0, like)

    def of(self, attention: str) -> tuple[Tensor, Tensor]:
        """P_k and P_v of an attention."""
        own = self.parameters
        if self.mlp is None:
            return own[f"{attention}.prefix_k"], own[f"{attention}.prefix_v"]
        kind, last = self.kinds[attention], f"{attention}.prefix.w2"
        inner = F.linear(own[f"{kind}.embedding"], own[f"{kind}.w1"], own[f"{kind}.w1_bias"])
        keys, values = F.linear(inner.tanh(), own[last], own[f"{last}_bias"]).chunk(2, dim=-1)
        return keys, values

    def hook(self, pick: Pick) -> list[Handle]:
        return [_Shadow(a, self) for layer in self.layers for a in layer.attentions]


class _Shadow:
    """An attention that looks up `attention` below, whatever its model's implementation is.

    Attentions choose their function by `self.config`. A copy of it, for this module alone, names
    ours; the model's own config goes on deciding which masks it makes. `remove` undoes it.
    """

    def __init__(self, attention: Attention, prefix: Prefix) -> None:
        self.module, self.config = attention.module, attention.module.config
        self.module.config = copy.copy(self.config)
        self.module.config._attn_implementation = _NAME
        self.module._frugal_prefix = (prefix, attention, self.config)

    def remove(self) -> None:
        self.module.config = self.config
        del self.module._frugal_prefix


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **more: Any
) -> tuple[Tensor, Any]:
    """The model's own attention function, over [P_k; K] and [P_v; V].

    query: (B, heads, L, size); key, value: (B, K/V heads, keys, size)
    """
    prefix, place, config = module._frugal_prefix
    name = config._attn_implementation
    if name not in ("eager", "sdpa"):
        raise FrugalError(f"prefix tuning needs eager or sdpa attention, not {name}")
    eager = sys.modules[type(module).__module__].eager_attention_forward
    own = AttentionInterface().get_interface(name, eager)

    def longer(prefix: Tensor, states: Tensor) -> Tensor:
        heads = prefix.to(states).view(len(prefix), states.shape[1], -1).transpose(0, 1)
        return torch.cat([heads.expand(len(states), -1, -1, -1), states], dim=2)

    queries, keys = query.shape[2], key.shape[2]
    causal = more.get("is_causal")
    causal = getattr(module, "is_causal", False) if causal is None else causal
    if mask is None and name == "sdpa" and causal and queries > 1:
        mask = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=key.device).tril()
    if mask is not None:
        mask = wider(mask, prefix.tokens + keys - mask.shape[-1])
    if (bias := more.get("position_bias")) is not None:  # T5's; the prefix has no position
        more["position_bias"] = F.pad(bias, (prefix.tokens, 0))
    k, v = prefix.of(place.name)
    return own(module, query, longer(k, key), longer(v, value), mask, **more)


AttentionInterface.register(_NAME, attention)


def frequent(table: Tensor, count: int) -> Tensor:
    """(count,) random ones of the 5,000 most frequent tokens (as T-Few does), by their low ids."""
    most = min(5003, len(table))  # the first three are special
    return torch.randint(min(3, most - 1), most, (count,)).to(table.device)


def wider(mask: Tensor, by: int) -> Tensor:
    """A mask with `by` more keys in front, which everyone sees."""
    if by < 0:
        raise FrugalError(f"the attention mask names {-by} keys more than there are")
    added = mask.dim() == 4 and mask.is_floating_point()  # 0 is "sees"; elsewhere it is 1
    return F.pad(mask, (by, 0), value=0.0 if added else 1)


def deeper(mask: Tensor, by: int, causal: bool) -> Tensor:
    """A (B, 1, L, keys) mask with `by` more queries in front, those of the first `by` keys.

    In a causal model they see each other backwards, elsewhere all that any query sees. A mask that
    is the same for all queries stays as it is.
    """
    if mask.dim() != 4 or mask.shape[2] == 1 or not by:
        return mask
    least: Any = torch.finfo(mask.dtype).min if mask.is_floating_point() else 0
    rows = mask.amax(dim=2, keepdim=True).expand(-1, -1, by, -1)
    if causal:
        keys = torch.arange(mask.shape[-1], device=mask.device)
        rows = rows.masked_fill(keys > keys[:by, None], least)
    return torch.cat([rows, mask], dim=2)


@dataclass(eq=False, kw_only=True)
class Prompt(Method):
    """`<stack>.prompt` (P, d) for the encoder and for the decoder.

    tokens: P. They start as embeddings of random frequent tokens (those with low numbers). The
    output is as long as the text, except that T5's encoder hands the prompt on to its decoder.
    An encoder BERT's is behind its embeddings and has no position: its first output stays [CLS].
    """

    tokens: int = 10

    def build(self) -> None:
        method.whole("tokens", self.tokens)
        if not self.whole:
            raise FrugalError("prompt tuning is at the input; it cannot be restricted to layers")
        self.stacks: list[_Stack] = []
        for name, layer in {layer.stack: layer for layer in self.layers}.items():
            module: Any = self.model.get_submodule(name)
            causal = layer.attentions[0].module.is_causal
            embeds = hasattr(module, "get_input_embeddings")
            above: Any = module if embeds else self.model.get_submodule(name.rpartition(".")[0])
            if causal and not embeds:  # BERT as a decoder counts positions by its cache
                module, embeds = above, True
            table = above.get_input_embeddings().weight
            prompt = method.full((self.tokens, table.shape[1]), 0.0, table)
            if not table.is_meta:
                prompt.data.copy_(table[frequent(table, self.tokens)])
            self.parameters[f"{name}.prompt".lstrip(".")] = prompt
            self.stacks.append(_Stack(module, prompt, causal, embeds))
        for stack in self.stacks[:-1]:  # read by a decoder
            stack.keep = stack.embeds

    def hook(self, pick: Pick) -> list[Handle]:
        return [handle for stack in self.stacks for handle in stack.hook()]


@dataclass
class _Stack:
    """Hooks around a stack of layers: the prompt goes in front, and out again behind.

    causal: a token sees those before it; embeds: the stack takes tokens, not states
    keep:   its output keeps the prompt's positions
    """

    module: Any
    prompt: Tensor
    causal: bool
    embeds: bool
    keep: bool = False
    added: int = 0  # in the forward pass that runs now

    def hook(self) -> list[Handle]:
        return [
            self.module.register_forward_pre_hook(self.before, with_kwargs=True),
            self.module.register_forward_hook(self.after),
        ]

    def before(self, module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        names = inspect.signature(module.forward).parameters
        if self.causal:
            cache_named(module, None)  # or a cache would not be seen, and the prompt go in again
        given = dict(zip(names, args, strict=False)) | kwargs
        ids = given.pop("input_ids", None)
        states = "inputs_embeds" if self.embeds else "hidden_states"
        x = module.get_input_embeddings()(ids) if given.get(states) is None else given[states]
        cache = cache_given(given)
        past = cache.get_seq_length() if cache is not None else 0
        self.added = 0 if past else len(self.prompt)  # a cache has the prompt in it already
        if self.added:
            x = torch.cat([self.prompt.to(x).expand(len(x), -1, -1), x], dim=1)
        given[states] = x
        if (mask := given.get("attention_mask")) is not None:
            mask = wider(mask, past + x.shape[1] - mask.shape[-1])
            given["attention_mask"] = deeper(mask, self.added, self.causal)
        if self.embeds and (positions := given.get("position_ids")) is not None:
            first = torch.arange(self.added, device=positions.device).expand(len(positions), -1)
            given["position_ids"] = torch.cat([first, positions + len(self.prompt)], dim=1)
        if (mask := given.get("encoder_attention_mask")) is not None:
            source = given["encoder_hidden_states"].shape[1]
            mask = wider(mask, source - mask.shape[-1])
            given["encoder_attention_mask"] = deeper(mask, self.added, causal=False)
        return (), given

    def after(self, module: Any, args: Any, output: Any) -> Any:
        if not self.added or self.keep:
            return output
        if isinstance(output, tuple):
            return (output[0][:, self.added :], *output[1:])
        output.last_hidden_state = output.last_hidden_state[:, self.added :]
        return output
