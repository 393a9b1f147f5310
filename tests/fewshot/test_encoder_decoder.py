"""Packed scoring of encoder–decoders against transformers' own, one choice at a time."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from test_choices import make, total
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from frugal import tasks
from frugal.cli import app
from frugal.costs import arch, flops
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, evaluate, losses, packing, passes, probe, tfew
from frugal.fewshot.choices import ChoiceScores
from frugal.tasks import Example
from two_berts import END, PAD, TOKENIZER, two_berts

SIZES = {
    "vocab_size": len(TOKENIZER),
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 40,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "dropout_rate": 0.0,
    "relative_attention_num_buckets": 8,  # few, so that long choices meet shared buckets
    "relative_attention_max_distance": 12,
    "pad_token_id": PAD,
    "eos_token_id": END,
    "decoder_start_token_id": PAD,
}


MODELS = {
    "t5-v1.0": lambda: T5ForConditionalGeneration(T5Config(feed_forward_proj="relu", **SIZES)),
    "t5-v1.1": lambda: T5ForConditionalGeneration(
        T5Config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **SIZES)
    ),
    "mt5": lambda: MT5ForConditionalGeneration(MT5Config(**SIZES)),
    "two-berts": two_berts,
}


def backbone(name, attention="sdpa"):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.set_attn_implementation(attention)
    return backbones.Backbone(name, model, TOKENIZER, "encoder-decoder")


def alone(b, examples):
    """ChoiceScores by one call of the model per choice: nothing shared, nothing padded."""
    logps, choice, example, correct = [], [], [], []
    for i, e in enumerate(examples):
        read = torch.tensor([TOKENIZER(e.prompt.rstrip()).input_ids])
        for j, text in enumerate(e.choices):
            target = torch.tensor([TOKENIZER(text.strip()).input_ids])
            if b.name == "two-berts":
                fed = torch.cat([torch.tensor([[PAD]]), target[:, :-1]], dim=1)
                logits = b.model(input_ids=read, decoder_input_ids=fed).logits
            else:
                out = b.model(input_ids=read, labels=target)
                logits = out.logits
                mean = F.cross_entropy(logits[0], target[0])
                torch.testing.assert_close(out.loss, mean)  # transformers' own loss is of these
            logp = logits[0].log_softmax(-1).gather(1, target[0][:, None])[:, 0]
            logps.append(logp)
            choice += [len(example)] * len(logp)
            example.append(i)
            correct.append(j == e.label)
    tensors = (torch.cat(logps), *map(torch.tensor, (choice, example, correct)))
    return ChoiceScores(*tensors, tokens_computed=0)


def packed(b, examples):
    trees = [packing.tree(e) for e in encoding.encode(b, examples)]
    return choices.forward(b, packing.pack(trees, packing.layout(trees), b.device))


@pytest.mark.parametrize(("training", "attention"), [(False, "sdpa"), (True, "eager")])
@pytest.mark.parametrize("name", MODELS)
def test_packed_scores_and_gradients_equal_one_choice_at_a_time(name, training, attention):
    b = backbone(name, attention)
    b.model.train(training)
    # Unequal prompts, numbers of choices and lengths; choices that share beginnings and do not.
    examples = make(2, 5) + make(1, 4, context="Another task. ")
    if not training:  # one after the other, many choices take most of the time
        examples += make(1, 77 if name == "t5-v1.1" else 12)
    results = []
    for scores in (packed(b, examples), alone(b, examples)):
        b.model.zero_grad()
        loss = total(scores)
        loss.backward()
        grads = [p.grad for p in b.model.parameters()]
        results.append((scores, loss.detach(), [g if g is None else g.clone() for g in grads]))
    (mine, loss, grads), (plain, plain_loss, plain_grads) = results
    torch.testing.assert_close(mine.token_logp, plain.token_logp, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, plain_loss, atol=1e-5, rtol=1e-5)
    for field in ("choice", "example", "correct"):
        assert torch.equal(getattr(mine, field), getattr(plain, field))
    for grad, reference in zip(grads, plain_grads, strict=True):
        if reference is None:  # BERT's pooler, which nothing reads
            assert grad is None
        else:
            scale = float(reference.abs().max())
            torch.testing.assert_close(grad, reference, rtol=1e-4, atol=1e-5 * max(scale, 1e-3))


@pytest.mark.parametrize("name", MODELS)
def test_three_rungs_have_the_same_loss(name):
    b = backbone(name)
    examples = make(3, 5) + make(1, 2, context="Pick. ")
    encoded = encoding.encode(b, examples)
    mine = packed(b, examples)
    for read_once in (False, True):
        logp = passes.one_row_per_choice(b, encoded, read_once=read_once)
        other = ChoiceScores(logp, mine.choice, mine.example, mine.correct, 0)
        torch.testing.assert_close(total(other), total(mine), rtol=1e-6, atol=1e-6)
    scored = choices.score(b, examples)
    torch.testing.assert_close(scored.token_logp, mine.token_logp.detach(), atol=1e-5, rtol=1e-5)
    assert torch.equal(scored.example, mine.example)


@pytest.mark.parametrize("name", MODELS)
def test_flops_of_the_three_rungs_are_the_closed_forms(name):
    b = backbone(name, "eager")
    a = arch.from_config(b.model.config)
    example = Example(prompt="Which letter is it?", choices=("abcd", "efgh", "ijkl"), label=0)
    encoded = encoding.encode(b, [example])
    trees = [packing.tree(e) for e in encoded]
    sizes = {"prompt_tokens": len(encoded[0].read), "choice_tokens": [5, 5, 5]}  # with the end

    def counted(run):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    found = [
        counted(lambda: passes.one_row_per_choice(b, encoded)),
        counted(lambda: passes.one_row_per_choice(b, encoded, read_once=True)),
        counted(lambda: choices.forward(b, packing.pack(trees, [[0]], b.device))),
    ]
    closed = [
        flops.one_row_per_choice(a, **sizes),
        flops.one_row_per_choice(a, **sizes, read_once=True),
        flops.packed(a, **sizes),
    ]
    assert found == [sum(parts.values()) for parts in closed]
    assert found[0] > found[1] > found[2]
    assert evaluate.query_flops(b, [example]) == found[2]
    # Shared beginnings are fed once: still exact, and less than the closed form without them.
    shared = example.model_copy(update={"choices": ("abcd", "abce", "abcf")})
    tree = packing.tree(encoding.encode(b, [shared])[0])
    count = counted(lambda: choices.forward(b, packing.pack([tree], [[0]], b.device)))
    assert count == evaluate.query_flops(b, [shared]) < found[2]


def test_one_row_per_choice_costs_refuse_a_decoder():
    with pytest.raises(FrugalError, match="read_once"):
        flops.one_row_per_choice(
            arch.get("llama3-8b"), prompt_tokens=3, choice_tokens=[1, 2], read_once=True
        )


def official_loss(model, input_ids, choice_ids, labels, pad):
    """T-Few's released loss by its formulas: padded tables, states repeated, quirks and all.

    input_ids (B, S), choice_ids (B, C, T), both padded with `pad`, which also starts the decoder.
    """
    size, count, length = choice_ids.shape
    states = model.get_encoder()(input_ids, attention_mask=(input_ids != pad).long())[0]
    flat = choice_ids.view(size * count, length)
    logits = model(
        encoder_outputs=(states.repeat_interleave(count, 0),),
        attention_mask=(input_ids != pad).long().repeat_interleave(count, 0),
        decoder_input_ids=F.pad(flat, (1, 0), value=pad)[:, :-1],
    ).logits
    real = (flat != pad).view(size, count, length)
    nll = F.cross_entropy(logits.transpose(1, 2), flat, reduction="none").view(size, count, length)
    rows = torch.arange(size)
    lm = nll[rows, labels][real[rows, labels]].mean()  # over all target tokens of the batch
    scores = (nll * real).sum(-1) / real.sum(-1)
    ranking = F.cross_entropy(-scores, labels)
    wrong = real.clone()
    wrong[rows, labels] = False
    masked = torch.where(wrong, -nll, torch.full_like(nll, -100.0))
    unlikelihood = -torch.log(1 - masked.exp() + 1e-2).sum() / wrong.sum()
    return {"lm": lm, "unlikelihood": unlikelihood, "length_normalized": ranking}


@pytest.mark.parametrize("name", ["t5-v1.0", "t5-v1.1", "mt5"])
def test_official_losses_equal_the_released_codes_formulas(name):
    b = backbone(name)
    examples = make(3, 5)
    padded = {"padding": True, "return_tensors": "pt"}
    read = TOKENIZER([e.prompt.rstrip() for e in examples], **padded).input_ids
    answers = TOKENIZER([c.strip() for e in examples for c in e.choices], **padded).input_ids
    labels = torch.tensor([e.label for e in examples])
    assert (read == PAD).any()
    assert (answers == PAD).any()
    reference = official_loss(b.model, read, answers.view(3, 5, -1), labels, PAD)
    scores = packed(b, examples)
    mine = {
        "lm": losses.lm_loss(scores, "official"),
        "unlikelihood": losses.unlikelihood_loss(scores, "official"),
        "length_normalized": losses.length_normalized_loss(scores),
    }
    for part, value in reference.items():
        torch.testing.assert_close(mine[part], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_halves_are_near_full_precision(name):
    b = backbone(name)
    examples = make(2, 5)
    with torch.no_grad():
        full = packed(b, examples)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            auto = packed(b, examples)
        b.model.to(torch.bfloat16)
        half = packed(b, examples)
    for scores in (auto, half):
        assert scores.token_logp.dtype == torch.float32
        error = (scores.token_logp - full.token_logp).abs()
        assert float((error / (1 + full.token_logp.abs())).max()) < 0.1
    probe.packs(b)


def test_prompt_goes_to_the_encoder_and_the_choice_to_the_decoder():
    b = backbone("t5-v1.1")
    (found,) = encoding.encode(b, [Example(prompt="Q: x\nA: ", choices=(" yes", " no"), label=0)])
    assert list(found.read) == TOKENIZER("Q: x\nA:").input_ids
    assert found.read[-1] == END
    assert found.sequences[0] == [PAD, *TOKENIZER("yes", add_special_tokens=False).input_ids, END]
    tree = packing.tree(found)
    assert tree.tokens[0] == PAD
    fed = 1 + 3 + 2  # one start; the ends are never fed
    assert tree.shape["logits_at"] == len(tree.tokens) == fed
    assert packing.shared_prefix([found], uses=100) == 0


def test_length_of_a_prompt_is_bounded_by_positions_alone():
    assert backbone("t5-v1.0").max_tokens is None
    b = backbone("two-berts")
    assert b.max_tokens == 512
    long = [Example(prompt="a" * 600 + " the end", choices=("x", "y"), label=0)]
    with pytest.raises(FrugalError, match="prompt takes 608 tokens"):
        choices.score(b, long)
    cut = dataclasses.replace(b, truncate=True)
    (found,) = encoding.encode(cut, long)
    assert len(found.read) == 512
    assert TOKENIZER.decode(found.read[:-1]).endswith("the end")
    with pytest.raises(FrugalError, match="a choice takes 601 tokens"):
        encoding.encode(cut, [Example(prompt="x", choices=("y" * 600, "z"), label=0)])


def test_icl_and_tfew_work_and_leave_the_model_alone():
    b, task = backbones.load("tiny-t5"), tasks.load("counting")
    queries = task.test(6)
    zero, _ = evaluate.rank(b, task, queries)
    icl, _ = evaluate.rank(b, task, queries, task.draw(2, 0))
    assert icl.flops_per_query > zero.flops_per_query
    before = {k: v.clone() for k, v in b.model.state_dict().items()}
    recipe = tfew.Recipe(steps=20, batch_size=4, lr=3e-2)
    result, _, trained = evaluate.few_shot(b, task, task.draw(8, 0), queries, recipe)
    assert trained.loss[-1] < trained.loss[0]
    assert result.train_flops > 0
    trained.tuned.detach()
    assert all(torch.equal(v, before[k]) for k, v in b.model.state_dict().items())


def test_training_flops_are_counted_to_the_last_one():
    b = backbone("t5-v1.1", "eager")
    examples = tasks.load("counting").draw(4, 0)
    recipe = tfew.Recipe(steps=1, batch_size=1)
    closed = evaluate.training_flops(b, examples, recipe)
    with FlopCounterMode(display=False) as counter:
        tfew.train(b, examples, recipe).tuned.detach()
    with FlopCounterMode(display=False) as probed:  # once, before the first step
        probe.packs(backbone("t5-v1.1", "eager"))
    assert counter.get_total_flops() - 2 * probed.get_total_flops() == closed


def test_an_encoder_alone_is_refused():
    b = backbones.Backbone(
        "some-encoder", backbone("two-berts").model.encoder, TOKENIZER, "encoder"
    )
    with pytest.raises(FrugalError, match="some-encoder is an encoder"):
        probe.packs(b)


@pytest.mark.parametrize("command", ["rank", "tfew"])
def test_commands_take_a_folder_that_holds_a_t5(command, tmp_path, capsys):
    folder = tmp_path / "my-t5"
    b = backbone("t5-v1.0")
    b.model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    options = ["--steps", "2", "--shots", "4"] if command == "tfew" else ["--shots", "1"]
    app(
        [command, "counting", "--backbone", str(folder), "--limit", "4", "--json", *options],
        standalone_mode=False,
    )
    result = json.loads(capsys.readouterr().out)
    assert result["backbone"] == str(folder)
    assert result["examples"] == 4
    assert math.isfinite(result["flops_per_query"])
