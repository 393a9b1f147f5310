"""FLOPs of a forward pass, a packed query, decoding and a training step.

Two counts, never mixed. The *paper* rule: 2N a token forward and 6N in training for decoder-only
models, N and 3N for encoder–decoders, where a token passes about half of the parameters (T-Few,
section 4.2). The *exact* count: two FLOPs for each multiplication of each matrix product, by part,
as `torch.utils.flop_counter.FlopCounterMode` finds under eager attention; norms, activations and
softmax are not counted, by either.

FLOPs are operations, not operations per second.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from frugal.costs import check, methods
from frugal.costs.arch import Architecture
from frugal.costs.methods import Method
from frugal.costs.walk import Walk
from frugal.errors import FrugalError

Parts = dict[str, int]


def forward(
    arch: Architecture,
    *,
    prompt_tokens: int,
    target_tokens: int | None = None,
    logits_at: int | None = None,
    context_tokens: int = 0,
    batch: int = 1,
    method: str | Method = methods.FROZEN,
) -> Parts:
    """Exact FLOPs of one forward pass, by part; `sum(values)` is FlopCounterMode's total.

    prompt_tokens: S, what a decoder-only model or an encoder reads
    target_tokens: what a decoder is fed besides. Decoder-only: 0 unless given. Encoder–decoder:
        as many as `logits_at`, or the one start token. Encoder-only: none
    logits_at: positions at which the vocabulary projection runs; all that are fed to the decoder
        unless given. An encoder has no such projection, but a pooler where `arch.pooler`
    context_tokens: tokens whose K and V lie in a cache already (decoder-only)
    batch: sequences of this shape
    method: attached to the model and not folded into its weights, as `train_step` takes it; where
        there is a context, a trained prompt stands in front of that. Multiplications by vectors,
        Compacter's Kronecker sums and SAID's transform hold no matrix product

    Raises FrugalError for a negative or fractional count, or one that does not suit the kind.
    """
    chosen = methods.get(method) if isinstance(method, str) else method
    prompt, target, logits, context = shape(
        arch, prompt_tokens, target_tokens, logits_at, context_tokens
    )
    if chosen.prompt and context:
        chosen, context = methods.FROZEN, context + chosen.tokens
    walk = Walk(arch, chosen)
    walk.model(prompt, target, logits, context)
    networks = per_step(arch, chosen).get("forward/prefix", 0)  # once, for all sequences
    own = {"prefix": networks} if networks else {}
    return _parts(walk.forward, check.whole("batch", batch, least=1)) | own


def packed_shape(
    arch: Architecture, prompt_tokens: int, choice_tokens: Sequence[int]
) -> dict[str, Any]:
    """Arguments `prompt_tokens`, `target_tokens` and `logits_at` of one packed example.

    All choices follow the prompt, which is read once; the last token of a choice is predicted,
    never fed; the first tokens of all choices are predicted at one position. Choices are taken to
    share no tokens with each other. An encoder–decoder's decoder starts from one start token.
    """
    if not choice_tokens:
        raise FrugalError("choice_tokens must name at least one choice")
    fed = sum(check.whole("choice_tokens", t, least=1) - 1 for t in choice_tokens)
    if arch.kind == "encoder-only":
        raise FrugalError(f"choice_tokens: {arch.name} is an encoder and scores no choices")
    start = 1 if arch.kind == "encoder-decoder" else 0
    least = 0 if start else 1
    prompt = check.whole("prompt_tokens", prompt_tokens, least=least)
    return {"prompt_tokens": prompt, "target_tokens": start + fed, "logits_at": 1 + fed}


def packed(
    arch: Architecture,
    *,
    prompt_tokens: int,
    choice_tokens: Sequence[int],
    context_tokens: int = 0,
    batch: int = 1,
) -> Parts:
    """Exact FLOPs of scoring all choices of an example in one packed row, by part.

    choice_tokens: length T of each choice; context_tokens: a cached prefix in front of the prompt
    """
    fed = packed_shape(arch, prompt_tokens, choice_tokens)
    return forward(arch, **fed, context_tokens=context_tokens, batch=batch)


def one_row_per_choice(
    arch: Architecture,
    *,
    prompt_tokens: int,
    choice_tokens: Sequence[int],
    read_once: bool = False,
    batch: int = 1,
) -> Parts:
    """Exact FLOPs of scoring every choice of an example in a row of its own, by part.

    What `packed` is compared with. Each row feeds the prompt and the choice, but not its last
    token, and projects to the vocabulary where a choice token is predicted.
    read_once: an encoder–decoder's encoder runs once, and its states are repeated for every
        choice (T-Few's released code); cross-attention's K and V are projected for each
    """
    if read_once and arch.kind != "encoder-decoder":
        raise FrugalError(f"read_once: {arch.name} has no encoder beside its decoder")
    total: Parts = defaultdict(int)
    for i, tokens in enumerate(choice_tokens):
        row = forward(arch, **packed_shape(arch, prompt_tokens, [tokens]), batch=batch)
        for part, flops in row.items():
            if not (read_once and i and part.startswith(("encoder/", "pooler"))):
                total[part] += flops
    return dict(total)


def decode(
    arch: Architecture,
    *,
    new_tokens: int,
    context_tokens: int,
    source_tokens: int = 0,
    batch: int = 1,
) -> Parts:
    """Exact FLOPs of generating `new_tokens` one by one with a K/V cache, by part.

    context_tokens: tokens in the decoder's cache when this begins
    source_tokens: what the encoder has read; its K and V for cross-attention are cached too
    """
    if arch.kind == "encoder-only":
        raise FrugalError(f"new_tokens: {arch.name} is an encoder and generates nothing")
    least = 1 if arch.kind == "encoder-decoder" else 0
    source = check.whole("source_tokens", source_tokens, least=least)
    if source and not least:
        raise FrugalError(f"source_tokens: {arch.name} has no encoder")
    context = check.whole("context_tokens", context_tokens)
    arch.check_cached(context + new_tokens if new_tokens else context)
    walk = Walk(arch, methods.FROZEN)
    for step in range(check.whole("new_tokens", new_tokens)):
        walk.model(source, 1, 1, context + step, read=True)
    return _parts(walk.forward, check.whole("batch", batch, least=1))


def train_step(
    arch: Architecture,
    *,
    prompt_tokens: int,
    target_tokens: int | None = None,
    logits_at: int | None = None,
    batch: int = 1,
    method: str | Method = "full",
) -> Parts:
    """Exact FLOPs of a forward and a backward pass, by part: "forward/…" and "backward/…".

    The loss is read from the logits, or from an encoder's pooler (without one, from the states).
    A frozen matrix costs no weight gradient, and what lies below the lowest trained parameter
    costs no gradient at all. The optimiser's own arithmetic holds no matrix product: 0 here, and so
    do Compacter's Kronecker sums and SAID's transform. FISH is counted as if each matrix had a
    trained entry: otherwise that much is too much. What FISH does before the first step (a forward
    and a backward pass of full fine-tuning for each example it looks at) is not in a step.
    Arguments as in `forward`; `method` is a name of `methods.METHODS`, or a Method.
    """
    chosen = methods.get(method) if isinstance(method, str) else method
    if chosen.norms and not arch.norm_first:
        raise FrugalError(
            f"{arch.name}: no norm lies below its first product; training norms has no closed form"
        )
    walk = Walk(arch, chosen)
    walk.model(*shape(arch, prompt_tokens, target_tokens, logits_at, 0))
    times = check.whole("batch", batch, least=1)
    both = {f"forward/{part}": n for part, n in walk.forward.items()}
    both |= {f"backward/{part}": n for part, n in walk.backward.items()}
    return _parts(both, times) | per_step(arch, chosen)


def per_step(arch: Architecture, method: Method) -> Parts:
    """What `train_step` holds once, however many sequences there are: a prefix's networks."""
    attentions = arch.layers + 2 * arch.decoder_layers  # each runs its own, first matrix and all
    flops = 2 * method.tokens * (method.mlp or 0) * (arch.d_model + 2 * arch.d_kv) * attentions
    return _parts({"forward/prefix": flops, "backward/prefix": 2 * flops}, 1)


def paper_forward(arch: Architecture, tokens: int) -> int:
    """FLOPs of inference by the papers' rule, with the N they name (T-Few, section 4.2)."""
    n = arch.nominal_params or arch.params
    per_token = n if arch.kind == "encoder-decoder" else 2 * n  # N or 2N
    return round(per_token * check.whole("tokens", tokens))


def paper_train(arch: Architecture, tokens: int) -> int:
    """FLOPs of training by the papers' rule: 3N or 6N a token, whatever is frozen."""
    return 3 * paper_forward(arch, tokens)


def shape(
    arch: Architecture, prompt: int, target: int | None, logits: int | None, context: int
) -> tuple[int, int, int, int]:
    """Checked arguments, defaults filled in, as `Walk.model` takes them."""
    prompt = check.whole("prompt_tokens", prompt, least=0 if arch.kind == "decoder-only" else 1)
    context = check.whole("context_tokens", context)
    if arch.kind != "decoder-only" and context:
        raise FrugalError(f"context_tokens: {arch.name} has no prefix that could be cached")
    if arch.kind == "encoder-only":
        if target or logits:
            name = "target_tokens" if target else "logits_at"
            raise FrugalError(f"{name}: {arch.name} is an encoder, without decoder and vocabulary")
        return prompt, 0, 0, 0
    if target is None:
        target = 0 if arch.kind == "decoder-only" else 1 if logits is None else logits
    target = check.whole("target_tokens", target)
    fed = target if arch.decoder_layers else prompt + target
    if context:
        arch.check_cached(context + fed)
    logits = fed if logits is None else check.whole("logits_at", logits)
    if fed < 1:
        raise FrugalError("prompt_tokens and target_tokens leave the decoder without input")
    if logits > fed:
        raise FrugalError(f"logits_at must be at most {fed}, the tokens fed, not {logits}")
    return prompt, target, logits, context


def _parts(flops: Mapping[str, int], batch: int) -> Parts:
    return {part: batch * count for part, count in flops.items() if count}
