"""FlexAttention in place of a mask: what it is told. Here it computes each pair, as no kernel."""

import pytest
import torch
from architectures import build, examples
from torch.nn.attention import flex_attention

from frugal import peft
from frugal.fewshot import choices, encoding, packing, passes, probe
from frugal.fewshot.encoding import EncodedExample
from frugal.tasks import Example

# torch's own warnings, where it would compile.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Neither compiled, nor refused because a processor has no kernel for the gradient."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex_attention, "_warn_once", lambda *_, **__: None)
    with torch.compiler.set_stance("force_eager"):
        yield


def packed(backbone, some, rows, prefix, flex):
    """Log-probabilities, and the gradients of all weights."""
    encoded = encoding.encode(backbone, some)
    trees = [packing.tree(e, prefix) for e in encoded]
    cache = passes.prefix_cache(backbone, encoded[0].sequences[0][:prefix]) if prefix else None
    found = passes.packed(backbone, packing.pack(trees, rows), cache, flex=flex)
    weights = list(backbone.model.parameters())
    return found.detach(), torch.autograd.grad(found.square().sum(), weights, allow_unused=True)


def close(one, other):
    torch.testing.assert_close(one[0], other[0], atol=1e-5, rtol=1e-5)
    pairs = [(a, b) for a, b in zip(one[1], other[1], strict=True) if not a is b is None]
    largest = max(float(b.abs().max()) for _, b in pairs)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "cohere2", "opt", "llama4_text"])
def test_it_gives_what_a_mask_gives(kind):
    """Several trees in a row, a padded row, behind nothing and behind a prefix; windows of 24."""
    more = {"attention_chunk_size": 20} if kind == "llama4_text" else {}
    backbone = build("causal", kind, **more)
    before = backbone.model.config._attn_implementation
    some, alike = examples()
    for these, rows, prefix in [(some, [[0, 1], [2]], 0), (alike, [[4, 0, 1], [2, 3]], 40)]:
        dense, flex = (packed(backbone, these, rows, prefix, flex) for flex in (False, True))
        close(flex, dense)
    assert backbone.model.config._attn_implementation == before


def tokens(*choices, start=2):
    return EncodedExample(list(map(list, choices)), start, 0)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (tokens([1, 2, 3], [1, 2, 4]), [1, 2]),  # one-token choices hang on nothing
        (tokens([1, 2, 3, 4], [1, 2, 5, 6]), [1, 2, 3, 5]),
        # The third goes on where the first began, behind the second: it is moved there.
        (tokens([1, 2, 3, 4, 9], [1, 2, 5, 6], [1, 2, 3, 7, 9]), [1, 2, 3, 4, 7, 5]),
        (tokens([1, 2, 3, 4, 9, 9], [1, 8, 9]), [1, 2, 3, 4, 9, 8]),
        (tokens([1, 3, 9], [2, 4, 9], [1, 5, 9]), [1, 3, 5, 2, 4]),
    ],
)
def test_a_token_is_seen_by_what_comes_of_it(example, expected):
    """Ancestors, against the paths that lead to each node."""
    tree = packing.tree(example)
    assert tree.tokens.tolist() == expected
    paths = {tuple(s[:n]) for s in example.sequences for n in range(1, len(s))}
    seen = {}
    for q in range(len(tree)):
        before = [k for k in range(q + 1) if k <= q <= tree.last[k]]
        path = tuple(tree.tokens[before].tolist())
        assert len(path) == tree.depth[q] + 1
        seen[q] = path
    assert set(seen.values()) == paths
    for source, target, choice in zip(tree.source, tree.target, tree.choice, strict=True):
        whole = (*seen[source], target)
        assert tuple(example.sequences[choice][: len(whole)]) == whole


@pytest.fixture
def on(monkeypatch):
    """As if this were a GPU; which passes went without a mask."""
    real, without = passes.packed, []

    def watched(*arguments, flex=False):
        without.append(flex)
        return real(*arguments, flex=flex)

    monkeypatch.setattr(passes, "packed", watched)
    monkeypatch.setattr(probe, "_FLEX", ("cpu",))
    return without


LONG = [
    Example(prompt=f"{i}" + "x" * 150, choices=(" yes, it is", " no"), label=0) for i in range(2)
]
SHORT = [e.model_copy(update={"prompt": e.prompt[:20]}) for e in LONG]


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_long_rows_on_a_gpu_go_without_a_mask(kind, on):
    backbone = build("causal", kind)
    expected = choices.score(build("causal", kind), SHORT[:1] + LONG)
    assert probe.flexes(backbone)
    for some, flex in ((LONG, True), (SHORT, False)):
        scores = choices.score(backbone, some)
        assert on[-1] == flex
    torch.testing.assert_close(scores.accuracy, expected.accuracy, atol=1, rtol=0)


def test_the_processor_keeps_its_mask(on, monkeypatch):
    monkeypatch.setattr(probe, "_FLEX", ("cuda",))
    backbone = build("causal", "llama")
    choices.score(backbone, LONG)
    assert not any(on)


def blind(own):
    """Sees what it must, but for the first token."""
    return lambda mod, *sizes: own(lambda b, h, q, k: mod(b, h, q, k) & (k > 0), *sizes)


def missing(own):
    def fail(*_):
        raise RuntimeError("no compiler")

    return fail


@pytest.mark.parametrize("fault", [blind, missing])
def test_what_it_gives_otherwise_is_masked(fault, on, monkeypatch):
    backbone = build("causal", "llama")
    expected = choices.score(build("causal", "llama"), SHORT)
    monkeypatch.setattr(passes, "create_block_mask", fault(passes.create_block_mask))
    assert not probe.flexes(backbone)
    choices.score(backbone, LONG)
    assert not on[-1]
    assert torch.equal(choices.score(backbone, SHORT).token_logp, expected.token_logp)


def test_a_wrong_gradient_is_enough_to_keep_the_mask(on, monkeypatch):
    backbone = build("causal", "llama")
    real = flex_attention._validate_device

    def refused(query, *_):
        if query.requires_grad:
            raise NotImplementedError("no backward here")

    monkeypatch.setattr(flex_attention, "_validate_device", refused)
    assert not probe.flexes(backbone)
    monkeypatch.setattr(flex_attention, "_validate_device", real)
    assert not probe.flexes(backbone)  # what was found is remembered


@pytest.mark.parametrize(("method", "flex"), [("ia3", True), ("prefix", False)])
def test_it_is_tried_with_what_is_attached(method, flex, on):
    backbone = build("causal", "llama")
    assert probe.flexes(backbone)
    tuned = peft.attach(backbone.model, method)
    assert probe.flexes(backbone) == flex
    assert choices.score(backbone, LONG).packed
    tuned.detach()
    assert probe.flexes(backbone)


@pytest.mark.parametrize(("family", "kind"), [("causal", "gpt2"), ("encoder-decoder", "t5")])
def test_a_model_that_it_does_not_suit_is_masked(family, kind, on):
    assert not probe.flexes(build(family, kind))
    assert not on  # T5 says that it takes it: that is not tried
