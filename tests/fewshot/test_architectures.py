"""Every class of transformers that scores text: packed and exact, alone and exact, or refused.

`data/results/architectures.csv` is the table of one run over all of them (`make architectures`).
"""

import csv
import os
import random
import sys
from pathlib import Path

import pytest
import torch
from architectures import build, examples, kinds, plain

from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, passes, probe
from frugal.fewshot.encoding import EncodedExample
from frugal.kernels import int8
from frugal.tasks.templates import Example

# What must stay packed; the others of the table may change with transformers.
PACKED = {
    "causal": """llama gpt2 gptj gpt_neox qwen2 qwen3 gemma phi opt falcon bert mistral mixtral phi3
        starcoder2 gemma2 gemma3_text cohere2 granite""",
    "encoder-decoder": """t5 mt5 umt5 longt5 switch_transformers bart mbart pegasus m2m_100 led
        encoder-decoder""",
}
ALONE = ["bloom", "mpt", "mamba", "gpt_neo", "roberta"]
REFUSED = ["xlnet", "xlm"]


def tried(family, kind, **more):
    """packed, alone or refused; the largest error, and of what; or the reason."""
    backbone = build(family, kind, **more)
    wrong, largest = 0.0, 0.0
    try:
        for some in examples():
            scores = choices.score(backbone, some)
            # A model of its own: some keep a trace of what they have read.
            own = plain(build(family, kind, **more), encoding.encode(backbone, some))
            wrong = max(wrong, float((scores.token_logp - own).abs().max()))
            largest = max(largest, float(own.abs().max()))
    except FrugalError as error:
        return "refused", 0.0, 0.0, str(error)
    return "packed" if scores.packed else "alone", wrong, largest, ""


def exact(wrong, largest):
    return wrong <= 1e-5 * max(1.0, largest)  # the last places of a float32


@pytest.mark.parametrize(
    ("family", "kind"), [(f, kind) for f, kinds in PACKED.items() for kind in kinds.split()]
)
def test_packed_and_exact(family, kind):
    how, wrong, largest, why = tried(family, kind)
    assert (how, why) == ("packed", "")
    assert exact(wrong, largest), (wrong, largest)


@pytest.mark.parametrize("kind", ALONE)
def test_what_packing_does_not_suit_is_scored_alone(kind):
    how, wrong, largest, why = tried("causal", kind)
    assert (how, why) == ("alone", "")
    assert exact(wrong, largest), (wrong, largest)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_sees_the_answer_is_refused(kind):
    how, _, _, why = tried("causal", kind)
    assert how == "refused"
    assert "depends on what comes after it" in why


@pytest.mark.parametrize("how", ["packed", "alone", "refused"])
def test_int8_weights_hide_nothing_from_the_probe(how):
    """A rounding that flips is larger than some faults of packing."""
    kinds = {"packed": ["llama", "gpt2"], "alone": ["bloom", "gpt_neo"], "refused": REFUSED}
    for kind in kinds[how]:
        backbone = build("causal", kind)
        int8.convert(backbone.model)
        if how == "refused":
            with pytest.raises(FrugalError, match=backbone.name):
                probe.packs(backbone)
        else:
            assert probe.packs(backbone, 64) == (how == "packed"), kind


def test_an_encoder_with_a_head_is_refused_unless_it_is_a_decoder():
    assert tried("causal", "bert", is_decoder=False)[0] == "refused"


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "factor": 4.0,
    "original_max_position_embeddings": 48,
}


def test_a_rope_that_depends_on_length_is_not_its_neighbours():
    """Texts beyond the switch (48 tokens) and before it, in one call and in either order."""
    more = {"rope_parameters": LONGROPE}
    backbone, some = build("causal", "llama", **more), examples()[0]
    for order in (some, some[::-1]):
        scores = choices.score(backbone, order)
        assert not scores.packed
        encoded = encoding.encode(backbone, order)
        own = [plain(build("causal", "llama", **more), [e]) for e in encoded]
        torch.testing.assert_close(scores.token_logp, torch.cat(own), atol=1e-5, rtol=1e-5)
    short = choices.score(backbone, [some[2]])
    assert short.packed  # no text reaches the switch
    own = plain(build("causal", "llama", **more), encoding.encode(backbone, [some[2]]))
    torch.testing.assert_close(short.token_logp, own, atol=1e-5, rtol=1e-5)


def test_a_stretched_rope_is_forgotten():
    """A dynamic rope stays stretched after a longer text; a choice alone starts as it was made."""
    more = {
        "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
        "max_position_embeddings": 24,
    }
    backbone = build("causal", "llama", **more)
    long, less = (EncodedExample([list(range(2, n)), list(range(3, n + 1))], n - 6, 0)
                  for n in (90, 60))  # fmt: skip
    with torch.inference_mode():
        own = passes.alone(build("causal", "llama", **more), [less])
        passes.alone(backbone, [long])
        # A rope that stays stretched is 1.5e-3 apart.
        torch.testing.assert_close(passes.alone(backbone, [less]), own, atol=1e-4, rtol=1e-5)
    with pytest.raises(FrugalError, match="takes 24"):  # what it was not made for is not scored
        choices.score(backbone, examples()[0])


def test_a_capacity_that_rows_pass_is_not_packed():
    backbone = build("encoder-decoder", "switch_transformers", expert_capacity=20)
    assert probe.packs(backbone, 90, answers=20)  # what is read has its row to itself
    assert not probe.packs(backbone, 21, answers=21)


def test_sparse_attention_is_what_it_is_after_short_texts_too():
    sizes = {"block_size": 2, "num_random_blocks": 1}
    backbone = build("encoder-decoder", "bigbird_pegasus", **sizes)
    short, long = examples()[0][2], examples()[0][0]
    for some in ([short, long], [long, short]):
        scores = choices.score(backbone, some)
        assert not scores.packed
        own = [
            plain(build("encoder-decoder", "bigbird_pegasus", **sizes), [e])
            for e in encoding.encode(backbone, some)
        ]
        torch.testing.assert_close(scores.token_logp, torch.cat(own), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "bart", "umt5"])
def test_gradients_are_those_of_each_choice_alone(kind):
    family = "encoder-decoder" if kind in ("bart", "umt5") else "causal"
    found = []
    for packed in (True, False):
        backbone = build(family, kind)
        encoded = encoding.encode(backbone, examples()[0])
        scores = choices.together(backbone, encoded, packed=packed)
        scores.mean_logp.square().sum().backward()
        found.append((scores, [p.grad for p in backbone.model.parameters()]))
    (one, gradients), (other, plainly) = found
    for name in ("choice", "example", "correct"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    for a, b in zip(gradients, plainly, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_class_is_wrong(tmp_path):
    """The whole table; over 100 classes, at least 60 of them exact, and the rest with a reason."""
    rows = []
    for family, kind in kinds():
        row = {"family": family, "type": kind, "how": "", "difference": "", "why": ""}
        try:
            if kind in SLOW:
                raise NotImplementedError("its recurrence takes minutes without its own kernels")
            build(family, kind)
        except Exception as error:  # a configuration of its own kind, a package that is missing
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            row |= {"how": "not built", "why": said[:120]}
        else:
            how, wrong, largest, why = tried(family, kind)
            assert exact(wrong, largest), (kind, how, wrong)
            row |= {"how": how, "why": why}
            if how != "refused":
                row["difference"] = f"{wrong:.0e}"
        rows.append(row)
    how = [row["how"] for row in rows]
    assert len(how) - how.count("not built") > 100
    assert how.count("packed") + how.count("alone") >= 60
    assert all(row["why"] for row in rows if row["how"] in ("refused", "not built"))
    out = Path(os.environ.get("FRUGAL_TABLE", tmp_path / "architectures.csv"))
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print({h: how.count(h) for h in sorted(set(how))}, out, file=sys.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_600_random_examples_are_the_models_own(kind):
    family = "encoder-decoder" if kind == "t5" else "causal"
    backbone, drawn = build(family, kind), random.Random(kind)

    def text(most):
        letters = "abcdefgh .,:?\n가나다éß0123456789"
        return "".join(drawn.choice(letters) for _ in range(drawn.randint(1, most))) + "x"

    some = [
        Example(
            prompt=text(60),
            choices=tuple({f" {text(8)}" for _ in range(drawn.randint(2, 5))} | {" yes", " no"}),
            label=0,
        )
        for _ in range(600)
    ]
    scores = choices.score(backbone, some)
    own = plain(backbone, encoding.encode(backbone, some))
    assert scores.packed
    assert exact(float((scores.token_logp - own).abs().max()), float(own.abs().max()))


# Without compiled kernels transformers walks these token by token, or chunk by chunk.
SLOW = {
    *("kimi_linear", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text"),
    *("nemotron_h", "blt", "vibevoice_asr"),
}


def test_logits_that_are_not_the_texts_are_refused():
    backbone = build("causal", "llama")
    whole = backbone.model.forward
    backbone.model.forward = lambda **k: _cut(whole(**k))
    with pytest.raises(FrugalError, match="cannot score text"):
        probe.packs(backbone)


def _cut(output):
    output.logits = output.logits[:, 1:]
    return output


def test_a_score_that_is_not_finite_names_its_example(monkeypatch):
    backbone, some = build("causal", "llama"), examples()[0]
    real = passes.packed

    def poisoned(*arguments, **more):
        found = real(*arguments, **more)
        return found.index_fill(0, torch.tensor([len(found) - 1]), float("nan"))

    assert probe.packs(backbone)
    monkeypatch.setattr(probe, "packs", lambda *_: True)
    monkeypatch.setattr(passes, "packed", poisoned)
    with pytest.raises(FrugalError, match=r"example 2: llama gives it .* not finite"):
        choices.score(backbone, some)


@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama", "bart", "led"])
def test_rows_longer_than_the_positions_are_packed(kind):
    """A row of several texts may be longer than the model lets a text be; the texts are not."""
    family = "encoder-decoder" if kind in ("bart", "led") else "causal"
    names = {"gpt2": ["n_positions"], "led": ["max_decoder_position_embeddings"]}
    sizes = dict.fromkeys(names.get(kind, ["max_position_embeddings"]), 64)
    backbone = build(family, kind, **sizes)
    some = [
        Example(prompt="w" * n, choices=(" ab", " cde"), label=0) for n in (55, 50, 20, 18, 16, 12)
    ]
    scores = choices.score(backbone, some)
    assert scores.packed
    own = plain(build(family, kind, **sizes), encoding.encode(backbone, some))
    torch.testing.assert_close(scores.token_logp, own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("big_bird", {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}),
        ("doge", {"keep_window_size": 10}),
    ],
)
def test_what_sees_the_answer_in_long_texts_alone_is_refused(kind, more):
    """Sparse attention looks ahead from some length on; short texts do not show it."""
    with pytest.raises(FrugalError, match="depends on what comes after it"):
        choices.score(build("causal", kind, **more), examples()[0])


def test_positions_that_count_from_an_offset_bound_a_text():
    """RoBERTa's first position is that behind padding's; LED names its encoder's by itself."""
    roberta = build("causal", "roberta", max_position_embeddings=66, pad_token_id=1)
    assert roberta.max_tokens == 64
    led = build("encoder-decoder", "led", max_encoder_position_embeddings=80)
    assert led.max_tokens == 80
    for backbone, long in ((roberta, 64), (led, 81)):
        with pytest.raises(FrugalError, match=f"takes {backbone.max_tokens}"):
            choices.score(backbone, [Example(prompt="w" * long, choices=("ab", "cd"), label=0)])
