"""From examples to tokens, once: what is scored, trained on and counted are the same tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError

if TYPE_CHECKING:
    from frugal.tasks import Example


@dataclass(frozen=True)
class EncodedExample:
    """Each choice's whole token sequence; its own tokens begin at `start`.

    A causal LM's sequences begin with the prompt, a decoder's with its start token, and then
    `read` is the prompt, which the encoder reads. `example` is what was encoded.
    """

    sequences: list[list[int]]
    start: int
    label: int
    read: tuple[int, ...] = ()
    example: "Example | None" = field(default=None, repr=False, compare=False)


def encode(
    backbone: Backbone, examples: "Sequence[Example] | Sequence[EncodedExample]"
) -> list[EncodedExample]:
    """Examples in tokens, as a model of this family takes them; what is in tokens stays as it is.

    So whoever scores examples and counts their FLOPs encodes them once, and gives both the same.

    Causal LM: prompt + choice is tokenised as one text, as a reader of it would. Scored is what
    comes after the longest beginning that the prompt's own tokens share with the text of every
    choice: a token that spans the seam ("(A") counts for its choice, and where one does, the last
    token of the prompt counts for all. A text that begins with the model's begin-of-text, as a
    chat template writes it, gets no second one.
    Encoder–decoder: the prompt is tokenised as its tokenizer does any input, special tokens and
    all; a choice is its text without white space around it, and the end of text, which is scored
    and counted like its other tokens. Source: T-Few's released code (its `EncoderDecoder.py`).

    A backbone that truncates has tokens dropped from the start of a prompt that is too long for
    it; with another such a prompt is a FrugalError, as are two choices that the tokenizer cannot
    tell apart: they would tie exactly, and the first would win; and so is an empty list.
    """
    if not examples:
        raise FrugalError("nothing to score: the list of examples is empty")
    if all(isinstance(e, EncodedExample) for e in examples):
        return cast("list[EncodedExample]", list(examples))
    if backbone.family == "encoder":
        raise FrugalError(f"{backbone.name} is an encoder; it gives no choice a log-probability")
    apart = backbone.family == "encoder-decoder"
    texts = cast("Sequence[Example]", examples)
    encoded = (_encode_apart if apart else _encode_whole)(backbone, texts)
    rows = backbone.model.get_input_embeddings().weight.shape[0]
    for i, e in enumerate(encoded):
        if (largest := max(*e.read, *map(max, e.sequences), 0)) >= rows:
            raise FrugalError(
                f"example {i}: {backbone.tokenizer.convert_ids_to_tokens(largest)!r} is token "
                f"{largest}, and {backbone.name} knows {rows}"
            )
    return encoded


def _encode_whole(backbone: Backbone, examples: "Sequence[Example]") -> list[EncodedExample]:
    """Examples in tokens for a causal LM: prompt and choice as one text."""
    tokenizer, limit = backbone.tokenizer, backbone.max_tokens
    first = tokenizer.bos_token_id
    begin = [first] if first is not None and tokenizer("x")["input_ids"][0] == first else []

    def tokens(texts: list[str]) -> list[list[int]]:
        ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return [row if row[:1] == begin else begin + row for row in ids]

    prompts = tokens([e.prompt.rstrip() for e in examples])
    wholes = iter(tokens([e.prompt + c for e in examples for c in e.choices]))
    encoded = []
    for i, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
        sequences = [next(wholes) for _ in example.choices]
        _distinct(i, example, sequences)
        start = min(common([prompt, s]) for s in sequences)
        if not start:  # something must stand before the first scored token
            context = first if first is not None else tokenizer.eos_token_id
            if context is None:
                raise FrugalError(
                    f"example {i}: nothing stands before its choices, and {backbone.name} has no "
                    "token to begin with"
                )
            start, sequences = 1, [[context, *s] for s in sequences]
        if empty := [c for c, s in zip(example.choices, sequences, strict=True) if len(s) <= start]:
            raise FrugalError(f"example {i}: choice {empty[0]!r} adds no token to its prompt")
        # The last token of a choice is predicted, never fed.
        excess = max(map(len, sequences)) - 1 - (limit or math.inf)
        if excess > 0:
            if not backbone.truncate or excess >= start - len(begin):
                raise FrugalError(
                    f"example {i}: prompt and choices take {max(map(len, sequences)) - 1} tokens, "
                    f"{backbone.name} takes {limit}; shorten them, use fewer shots, or truncate"
                )
            drop = len(begin) + int(excess)
            sequences = [begin + s[drop:] for s in sequences]
            start -= int(excess)
        encoded.append(EncodedExample(sequences, start, example.label, example=example))
    return encoded


def _encode_apart(backbone: Backbone, examples: "Sequence[Example]") -> list[EncodedExample]:
    """Examples in tokens for an encoder–decoder: prompts to the encoder, choices to the decoder."""
    tokenizer, limit = backbone.tokenizer, backbone.max_tokens or math.inf
    start, end = backbone.decoder_ends
    before, after = _frame(tokenizer)

    def tokens(texts: list[str]) -> list[list[int]]:
        return list(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])

    prompts = tokens([e.prompt.rstrip() for e in examples])
    choices = iter(tokens([c.strip() for e in examples for c in e.choices]))
    encoded = []
    for i, (example, prompt) in enumerate(zip(examples, prompts, strict=True)):
        sequences = []
        for choice in example.choices:
            if not (found := next(choices)):
                raise FrugalError(f"example {i}: choice {choice!r} has no token")
            sequences.append([start, *found, end])
        _distinct(i, example, sequences)
        longest = max(map(len, sequences)) - 1
        if longest > limit:
            raise FrugalError(f"example {i}: a choice takes {longest} tokens, not up to {limit}")
        excess = len(before) + len(prompt) + len(after) - limit
        if excess > 0:
            if not backbone.truncate:
                raise FrugalError(
                    f"example {i}: the prompt takes {len(prompt)} tokens, {backbone.name} takes "
                    f"{limit}; shorten it, use fewer shots, or truncate"
                )
            prompt = prompt[int(excess) :]
        read = (*before, *prompt, *after) or (end,)  # something must be read
        encoded.append(EncodedExample(sequences, 1, example.label, read, example))
    return encoded


def _distinct(i: int, example: "Example", sequences: Sequence[Sequence[int]]) -> None:
    """Raise FrugalError where two choices of an example are the same tokens."""
    first: dict[tuple[int, ...], int] = {}
    for j, sequence in enumerate(map(tuple, sequences)):
        if (other := first.setdefault(sequence, j)) != j:
            raise FrugalError(
                f"example {i}: the tokenizer cannot tell its choices {example.choices[other]!r} "
                f"and {example.choices[j]!r} apart: they are the same tokens"
            )


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    plain = tokenizer("x", add_special_tokens=False)["input_ids"]
    whole = tokenizer("x")["input_ids"]
    at = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return whole[:at], whole[at + len(plain) :]


def common(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest beginning that all sequences share."""
    texts = [tuple(s) for s in sequences]
    first, last = min(texts), max(texts)  # whatever these two share, all between do
    pairs = enumerate(zip(first, last, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(last)))
