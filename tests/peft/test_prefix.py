"""Prefixes and prompts against transformers' own caches and embeddings, under every mask."""

from inspect import signature as signature_of
from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache

from frugal import peft
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, packing, passes, probe
from frugal.internals import cache_made, cache_named
from frugal.tasks import Example
from tiny_models import IDS, MODELS, build, inputs, randomise, run, t5

MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
CAUSAL = ("llama", "gpt2")
models = pytest.mark.parametrize("name", MODELS)
both = pytest.mark.parametrize("method", ["prefix", "prompt"])
attentions = pytest.mark.parametrize("attention", ["eager", "sdpa"])
PREFIXES = [{"tokens": 3}, {"tokens": 2, "mlp": 5}]


def attach(model, method, options=None):
    tuned = peft.attach(model, method, options)
    randomise(tuned.parameters())
    return tuned


@attentions
@pytest.mark.parametrize("options", PREFIXES)
@pytest.mark.parametrize("name", CAUSAL)
def test_prefix_is_a_cache_without_position(name, options, attention):
    model = build(name)
    model.set_attn_implementation(attention)
    tuned = attach(model, "prefix", options)
    found = model(input_ids=IDS, attention_mask=MASK).logits
    cache, (method,) = DynamicCache(config=model.config), tuned.methods
    heads = getattr(model.config, "num_key_value_heads", model.config.num_attention_heads)
    for layer in method.layers:
        states = (
            p.detach().view(1, len(p), heads, -1).transpose(1, 2)
            for p in method.of(layer.attentions[0].name)
        )
        cache.update(*(s.expand(len(IDS), -1, -1, -1) for s in states), layer.index)
    tuned.detach()
    expected = model(
        input_ids=IDS,
        attention_mask=torch.nn.functional.pad(MASK, (options["tokens"], 0), value=1),
        position_ids=torch.arange(IDS.shape[1])[None],
        **cache_named(model, cache),
    ).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert cache.get_seq_length() == options["tokens"] + IDS.shape[1]


def test_prefix_starts_as_keys_and_values_of_tokens():
    model = build("llama")
    tuned = peft.attach(model, "prefix")
    layer = model.model.layers[0]
    states = layer.input_layernorm(model.get_input_embeddings().weight)
    own = dict(tuned.named_parameters())
    for part, projection in (("k", layer.self_attn.k_proj), ("v", layer.self_attn.v_proj)):
        of_tokens = projection(states)
        found = own[f"model.layers.0.self_attn.prefix_{part}"]
        difference = (found[:, None] - of_tokens).abs().amax(dim=2)
        assert difference.amin(dim=1).max() < 1e-5  # each is some token's


def slow_t5(method):
    """T5's attention from its definition, with prefixes of which the relative bias is 0."""

    def replaced(a):
        def forward(x, mask=None, key_value_states=None, position_bias=None, **_):
            source = x if key_value_states is None else key_value_states
            prefix_k, prefix_v = method.of(a.name)

            def heads(states):
                return states.view(*states.shape[:2], a.module.n_heads, -1).transpose(1, 2)

            def longer(prefix, states):
                return torch.cat([prefix.expand(len(states), -1, -1), states], dim=1)

            q, k, v = (
                m(s) for m, s in ((a.module.q, x), (a.module.k, source), (a.module.v, source))
            )
            if position_bias is None:
                shape = (x.shape[1], source.shape[1])
                relative = a.module.has_relative_attention_bias
                bias = a.module.compute_bias(*shape) if relative else torch.zeros(1, 1, *shape)
                position_bias = bias if mask is None else bias + mask  # eager: an added mask
            bias = torch.nn.functional.pad(position_bias, (len(prefix_k), 0))
            scores = heads(q) @ heads(longer(prefix_k, k)).mT + bias
            mixed = scores.softmax(-1) @ heads(longer(prefix_v, v))
            out = a.module.o(mixed.transpose(1, 2).flatten(2))
            return out, position_bias, None

        return forward

    for layer in method.layers:
        for a in layer.attentions:
            a.module.forward = replaced(a)


@attentions
@pytest.mark.parametrize("name", ["t5-v1.0", "t5-v1.1"])
def test_prefix_of_t5_equals_its_definition(name, attention):
    model = build(name)
    model.set_attn_implementation(attention)
    tuned = attach(model, "prefix")
    found = run(model, mask=MASK)
    tuned.detach()
    model.set_attn_implementation("eager")
    slow_t5(tuned.methods[0])
    assert torch.allclose(found, run(model, mask=MASK), atol=1e-5)


@attentions
@models
def test_prompt_is_embeddings_in_front(name, attention):
    model = build(name)
    model.set_attn_implementation(attention)
    tuned = attach(model, "prompt", {"tokens": 3})
    found = run(model, mask=MASK)
    prompts = [p.detach().expand(3, -1, -1) for p in tuned.parameters()]
    tuned.detach()
    mask = torch.nn.functional.pad(MASK, (3, 0), value=1)

    def bert(part, prompt, ids, **more):
        states = torch.cat([prompt, part.embeddings(input_ids=ids)], dim=1)
        return part.encoder(states, **more).last_hidden_state[:, 3:]

    def added(mask):
        return (1.0 - mask[:, None, None].float()) * -1e9

    if name == "bert2bert":
        source = bert(model.encoder, prompts[0], IDS, attention_mask=added(mask))
        front = model.decoder.get_input_embeddings()(inputs(model)["decoder_input_ids"])
        expected = model.decoder(
            inputs_embeds=torch.cat([prompts[1], front], dim=1),
            encoder_hidden_states=source,
            encoder_attention_mask=MASK,
        ).logits[:, 3:]
    elif name in ("bert", "roberta"):
        expected = bert(model, prompts[0], IDS, attention_mask=added(mask))
    else:
        front = [
            torch.cat([p, model.get_input_embeddings()(ids)], dim=1)
            for p, ids in zip(prompts, inputs(model, mask=None).values(), strict=True)
        ]
        batch = {"inputs_embeds": front[0], "attention_mask": mask}
        if len(front) > 1:
            batch["decoder_inputs_embeds"] = front[1]
        expected = model(**batch).logits[:, 3:]
    assert torch.allclose(found, expected, atol=1e-5)


@attentions
@both
@models
def test_padding_changes_nothing(name, method, attention):
    model = build(name)
    model.set_attn_implementation(attention)
    attach(model, method)
    found = run(model, mask=MASK)
    for row, length in enumerate(MASK.sum(1).tolist()):
        if model.config.is_encoder_decoder:
            whole = inputs(model)["decoder_input_ids"][row : row + 1]
            alone = model(input_ids=IDS[row : row + 1, :length], decoder_input_ids=whole)[0]
        else:
            alone = run(model, IDS[row : row + 1, :length])
        assert torch.allclose(found[row, : alone.shape[1]], alone[0], atol=1e-5)


DECODERS = pytest.mark.parametrize("name", ["llama", "gpt2", "t5-v1.1", "bert2bert"])


def decoder(name):
    if name != "t5-v1.1":
        return build(name)
    torch.manual_seed(0)  # transformers sizes T5's cache by its encoder's layers
    return t5("gated-gelu", num_decoder_layers=2).eval()


def in_cache(tuned):
    """Positions that the method itself takes in a cache: a prompt is text, a prefix is not."""
    return tuned.methods[0].tokens if tuned.method == "prompt" else 0


@both
@DECODERS
def test_generating_with_a_cache_is_generating_without(name, method):
    model = decoder(name)
    model.generation_config.decoder_start_token_id = 1
    tuned = attach(model, method)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    left, lengths = MASK.flip(1), []

    def measure(module, args, output):
        lengths.append(cache_made(output).get_seq_length())

    handle = model.register_forward_hook(measure)
    found = model.generate(input_ids=IDS, attention_mask=left, **options)
    handle.remove()
    plain = model.generate(input_ids=IDS, attention_mask=left, use_cache=False, **options)
    assert torch.equal(found.sequences, plain.sequences)
    assert_steps(found.logits, plain.logits)
    first = 1 if model.config.is_encoder_decoder else IDS.shape[1]
    assert lengths == [in_cache(tuned) + first + step for step in range(5)]
    if name in CAUSAL:
        alone = model.generate(input_ids=IDS[2:, 4:], **options)
        assert torch.equal(found.sequences[2, 6:], alone.sequences[0, 2:])
        assert_steps([step[2:] for step in found.logits], alone.logits)


def assert_steps(found, expected):
    """Logits of every step are the same."""
    assert len(found) == len(expected) == 5
    for step, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert torch.allclose(a, b, atol=1e-5), f"step {step}"


@both
@attentions
@DECODERS
@pytest.mark.parametrize("chunks", [[1] * 6, [2, 1, 3]], ids=str)
def test_steps_with_a_cache_are_one_pass(name, chunks, attention, method):
    """Several tokens a step too, as packed choices behind a shared prefix are computed."""
    model = decoder(name)
    model.set_attn_implementation(attention)
    tuned = attach(model, method)
    if model.config.is_encoder_decoder:
        read = {"input_ids": IDS, "attention_mask": MASK}
        ids = IDS.flip(1)
        expected = model(**read, decoder_input_ids=ids, use_cache=False).logits
    else:
        ids, mask = IDS, MASK.flip(1)  # padded on the left
        places = (mask.cumsum(1) - 1).clamp(min=0)
        whole = {"attention_mask": mask, "position_ids": places}
        expected = model(input_ids=ids, **whole, use_cache=False).logits
    cache, start = None, 0
    for step, size in enumerate(chunks):
        end = start + size
        if model.config.is_encoder_decoder:
            now = read | {"decoder_input_ids": ids[:, start:end]}
        else:
            now = {"input_ids": ids[:, start:end], "attention_mask": mask[:, :end]}
            now["position_ids"] = places[:, start:end]
        output = model(**now, **cache_named(model, cache), use_cache=True)
        cache = cache_made(output)
        assert cache.get_seq_length() == in_cache(tuned) + end
        seen = torch.ones_like(ids).bool() if model.config.is_encoder_decoder else mask.bool()
        seen = seen[:, start:end]  # what stands on padding means nothing
        assert seen.any()
        assert torch.allclose(output.logits[seen], expected[:, start:end][seen], atol=1e-5), step
        start = end


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_a_cache_is_found_by_either_name(name, monkeypatch):
    """By what the installed transformers calls it, and by what others do."""
    model = build("llama").model
    own, signature, (mine,) = model.forward, signature_of(model.forward), cache_named(model, None)

    def forward(**given):
        output = own(**{mine if key == name else key: value for key, value in given.items()})
        return SimpleNamespace(**{name: cache_made(output), "last_hidden_state": output[0]})

    names = [
        p.replace(name=name if p.name == mine else p.name) for p in signature.parameters.values()
    ]
    forward.__signature__ = signature.replace(parameters=names)
    tuned = attach(model, "prompt")
    expected = model(input_ids=IDS, use_cache=False).last_hidden_state
    monkeypatch.setattr(model, "forward", forward)
    cache, found = None, []
    for at in range(IDS.shape[1]):
        now = {"input_ids": IDS[:, at : at + 1], "position_ids": torch.tensor([[at]])}
        output = model(**now, **{name: cache}, use_cache=True)
        cache = cache_made(output)
        found.append(output.last_hidden_state)
        assert cache.get_seq_length() == tuned.methods[0].tokens + at + 1
    assert torch.allclose(torch.cat(found, dim=1), expected, atol=1e-5)


def test_a_cache_by_a_third_name_is_refused(monkeypatch):
    """Prompt tuning would put its prompt in again at every step."""
    model = build("llama")
    attach(model, "prompt")
    monkeypatch.setattr(model.model, "forward", lambda input_ids=None, memory=None, **more: None)
    with pytest.raises(FrugalError, match="LlamaModel takes no cache by a name that is known"):
        model(input_ids=IDS)


@attentions
@pytest.mark.parametrize("method", [m for m in peft.METHODS if m not in ("full", "fish", "said")])
def test_packed_choices_score_as_rows_of_their_own(method, attention):
    backbone = backbones.load("tiny-causal")
    backbone.model.set_attn_implementation(attention)
    tuned = attach(backbone.model, method)
    shared = "All of these say how many letters there are. " * 8
    examples = [
        Example(prompt=f"{shared}{'ab' * n} has", choices=(" two", " four", " twenty"), label=0)
        for n in (1, 2, 5)
    ]
    probe.packs(backbone)
    found = choices.score(backbone, examples)
    encoded = encoding.encode(backbone, examples)
    behind = packing.shared_prefix(encoded, uses=3)
    assert behind > 0  # a cache of it is used
    cache = passes.prefix_cache(backbone, encoded[0].sequences[0][:behind])
    assert cache.get_seq_length() == in_cache(tuned) + behind
    expected = passes.one_row_per_choice(backbone, encoded)
    assert torch.allclose(found.token_logp, expected.detach().cpu(), atol=1e-4)


def test_other_attention_functions_are_refused():
    model = build("llama")
    attach(model, "prefix")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(FrugalError, match="needs eager or sdpa attention, not flex_attention"):
        model(inputs_embeds=model.get_input_embeddings()(IDS), attention_mask=MASK[:, None, None])
