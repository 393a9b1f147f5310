"""(IA)³: ones change nothing, detach leaves every bit, and the count is the formula's."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTModel,
    T5Config,
    T5ForConditionalGeneration,
)

import peft as hf
from frugal import peft
from frugal.errors import FrugalError


def llama():
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )


def t5(gated):
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=50,
            d_model=16,
            d_kv=4,
            d_ff=24,
            num_layers=2,
            num_decoder_layers=3,
            num_heads=3,
            feed_forward_proj="gated-gelu" if gated else "relu",
            decoder_start_token_id=0,
        )
    )


def bert():
    return BertModel(
        BertConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
    )


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_inner=24))


MODELS = {
    "llama": (llama, 2 * (8 + 8 + 24)),
    "t5-v1.0": (lambda: t5(False), 2 * (12 + 12 + 24) + 3 * (2 * (12 + 12) + 24)),
    "t5-v1.1": (lambda: t5(True), 2 * (12 + 12 + 24) + 3 * (2 * (12 + 12) + 24)),
    "bert": (bert, 2 * (16 + 16 + 24)),
    "gpt2": (gpt2, 2 * (16 + 16 + 24)),
}
IDS = torch.tensor([[3, 7, 11, 2, 9], [1, 4, 1, 5, 9]])


def run(model):
    inputs = {"input_ids": IDS}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = IDS[:, :3]
    return model(**inputs)[0]


@pytest.fixture(params=MODELS)
def case(request):
    torch.manual_seed(0)
    build, count = MODELS[request.param]
    return build().eval(), count


def randomise(tuned):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in tuned.parameters():
            p.copy_(1 + 0.5 * torch.randn(p.shape, generator=generator))


def test_starts_as_the_base_model_with_the_formulas_count(case):
    model, count = case
    base = run(model)
    tuned = peft.attach(model, "ia3")
    assert torch.allclose(run(model), base, atol=1e-6)
    assert tuned.trainable_params == count


def test_gradients_reach_exactly_the_vectors_and_detach_restores_every_bit(case):
    model, _ = case
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    base = run(model)
    tuned = peft.attach(model, "ia3")
    randomise(tuned)
    run(model).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tuned.parameters())
    assert all(p.grad is None for p in model.parameters())
    assert not torch.allclose(run(model), base)
    tuned.detach()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert torch.equal(run(model), base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_merge_is_the_same_function_and_unmerge_the_same_bits(case, dtype):
    model, _ = case
    model.to(dtype)
    tuned = peft.attach(model, "ia3")
    randomise(tuned)
    with torch.no_grad():
        next(iter(tuned.parameters()))[0] = 0.0  # lost for good where unmerging divides
    expected = run(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tuned.merge()
    with pytest.raises(FrugalError, match="already merged"):
        tuned.merge()
    tolerance = {torch.float32: 1e-5}.get(dtype, 0.1)
    assert torch.allclose(run(model).float(), expected.float(), atol=tolerance, rtol=tolerance)
    tuned.unmerge()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(run(model), expected)


def test_save_and_load_give_the_same_logits(case, tmp_path):
    model, _ = case
    tuned = peft.attach(model, "ia3")
    randomise(tuned)
    expected = run(model)
    tuned.save(tmp_path)
    tuned.detach()
    peft.load(model, tmp_path)
    assert torch.equal(run(model), expected)


# What HF peft must be told for the same places; its GPT-2 cannot scale k and v of the fused layer.
TARGETS = {
    "llama": (["k_proj", "v_proj", "down_proj"], ["down_proj"]),
    "t5-v1.0": (["k", "v", "wo"], ["wo"]),
    "t5-v1.1": (["k", "v", "wo"], ["wo"]),
    "bert": (["key", "value", r"output.dense"], [r"output.dense"]),
}


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft's own
@pytest.mark.parametrize("name", ["llama", "t5-v1.0", "t5-v1.1"])
def test_forward_equals_hf_peft(name):
    torch.manual_seed(0)
    model = MODELS[name][0]().eval()
    targets, feed_forward = TARGETS[name]
    other = hf.get_peft_model(
        MODELS[name][0]().eval(),
        hf.IA3Config(target_modules=targets, feedforward_modules=feed_forward),
    )
    other.base_model.model.load_state_dict(
        {
            k.replace(".weight", ".base_layer.weight")
            if any(k.endswith(f".{t}.weight") for t in targets)
            else k: v
            for k, v in model.state_dict().items()
        },
        strict=False,
    )
    tuned = peft.attach(model, "ia3")
    randomise(tuned)
    theirs = dict(other.named_parameters())
    with torch.no_grad():
        for p, place in zip(tuned.parameters(), tuned.places(), strict=True):
            theirs[f"base_model.model.{place}.ia3_l.default"].view(-1).copy_(p)
    assert torch.allclose(run(other), run(model), atol=1e-6)


def test_bad_input_has_one_clear_error(tmp_path):
    model = llama()
    with pytest.raises(FrugalError, match="unknown method 'ia33'; did you mean 'ia3'"):
        peft.attach(model, "ia33")
    with pytest.raises(FrugalError, match="'ia3' has no such option"):
        peft.attach(model, "ia3", {"rank": 4})
    peft.attach(model, "ia3").save(tmp_path)
    with pytest.raises(FrugalError, match="attached already"):
        peft.attach(model, "ia3")
    with pytest.raises(FrugalError, match="does not fit this model"):
        peft.load(bert(), tmp_path)
    with pytest.raises(FrugalError, match="holds no adapter"):
        peft.load(bert(), tmp_path / "nowhere")
    opt = OPTModel(
        OPTConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            ffn_dim=16,
            num_attention_heads=2,
            word_embed_proj_dim=16,
        )
    )
    with pytest.raises(FrugalError, match=r"OPTModel is not supported: .*OPTDecoderLayer"):
        peft.attach(opt, "ia3")
