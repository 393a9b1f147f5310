"""Folders of Hugging Face's peft in both directions, and T-Few's released checkpoints."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import IDS, MODELS, build, randomise, run

import peft as hf
from frugal import peft
from frugal.errors import FrugalError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning",  # peft's own
    "ignore:fan_in_fan_out is set to:UserWarning",
)
# GPT-2's q, k and v are one matrix, whose LoRA in peft is another than three.
FIT = [(m, n) for n in MODELS for m in ("ia3", "lora") if (m, n) != ("lora", "gpt2")]


@pytest.mark.parametrize(("method", "name"), FIT)
def test_saved_here_peft_computes_the_same(method, name, tmp_path):
    model = build(name)
    base, plain = run(model), copy.deepcopy(model)
    tuned = peft.attach(model, method)
    randomise(tuned.parameters())
    tuned.save(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    theirs = hf.PeftModel.from_pretrained(plain, tmp_path)
    assert not torch.allclose(run(model), base, atol=1e-2)
    assert torch.allclose(run(theirs.base_model.model), run(model), atol=1e-6)


# What peft adapts by default, or in a way the roles here can name.
LORA = {
    "llama": ["q_proj", "v_proj"],
    "t5-v1.0": ["q", "v"],
    "t5-v1.1": ["k", "wi_0", "wi_1"],
    "bert": "all-linear",
    "bert2bert": ["query", "value"],
    "roberta": ["query", "output.dense"],
    "gpt2": ["c_attn", "c_fc"],
}
IA3 = {
    "llama": (["k_proj", "v_proj", "down_proj"], ["down_proj"]),
    "t5-v1.0": (["k", "v", "wo"], ["wo"]),
    "t5-v1.1": (["k", "v", "wo"], ["wo"]),
    "bert": (["key", "value", "output.dense"], ["output.dense"]),
    "bert2bert": (["key", "value", "output.dense"], ["output.dense"]),
    "roberta": (["key", "value"], []),
    "gpt2": (["mlp.c_proj"], ["mlp.c_proj"]),
}


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("name", LORA)
def test_lora_of_peft_loads_here(name, rslora, tmp_path):
    model = build(name)
    plain = copy.deepcopy(model)
    exclude = "pooler.dense" if name == "bert" else None
    config = hf.LoraConfig(
        r=3,
        lora_alpha=5,
        use_rslora=rslora,
        target_modules=LORA[name],
        exclude_modules=[exclude] if exclude else None,
        fan_in_fan_out=name == "gpt2",
        layers_to_transform=[1] if name == "llama" else None,
    )
    theirs = hf.get_peft_model(model, config).eval()
    randomise(p for p in theirs.parameters() if p.requires_grad)
    theirs.save_pretrained(tmp_path)
    tuned = peft.load(plain, tmp_path)
    assert tuned.method == "lora"
    assert torch.allclose(run(plain), run(theirs.base_model.model), atol=1e-6)
    if name == "llama":
        assert tuned.parts[0].layers == [1]


@pytest.mark.parametrize("name", IA3)
def test_ia3_of_peft_loads_here(name, tmp_path):
    model = build(name)
    plain = copy.deepcopy(model)
    targets, feed_forward = IA3[name]
    config = hf.IA3Config(
        target_modules=targets, feedforward_modules=feed_forward, fan_in_fan_out=name == "gpt2"
    )
    theirs = hf.get_peft_model(model, config).eval()
    randomise(p for p in theirs.parameters() if p.requires_grad)
    theirs.save_pretrained(tmp_path)
    assert peft.load(plain, tmp_path).method == "ia3"
    assert torch.allclose(run(plain), run(theirs.base_model.model), atol=1e-6)


def test_what_lies_in_a_folder_is_what_was_saved_last(tmp_path):
    model = build("llama")
    peft.attach(model, "adapter").save(tmp_path)
    model._frugal_tuned.detach()
    peft.attach(model, "lora", {"rank": 2}).save(tmp_path)
    model._frugal_tuned.detach()
    assert peft.load(model, tmp_path).method == "lora"
    model._frugal_tuned.detach()
    peft.attach(model, "bitfit").save(tmp_path)
    model._frugal_tuned.detach()
    assert peft.load(model, tmp_path).method == "bitfit"


def test_checkpoint_of_tfew(tmp_path):
    """The released layout; its function is that of scaling the outputs of k, v and wi_1."""
    model = build("t5-v1.1")
    generator = torch.Generator().manual_seed(0)
    plain = copy.deepcopy(model)
    vectors = {}
    for name, module in plain.named_modules():
        if name.endswith((".k", ".v", ".wi_1")):
            scale = torch.rand(module.out_features, 1, generator=generator)
            vectors[f"{name}.multi_lora_b"] = scale
            module.register_forward_hook(lambda _, args, out, s=scale: out * s.flatten())
    file = tmp_path / "finish.pt"
    torch.save(vectors, file)
    tuned = peft.load(model, file)
    assert tuned.method == "ia3"
    assert tuned.trainable_params == sum(v.numel() for v in vectors.values())
    assert torch.allclose(run(model), run(plain), atol=1e-6)
    tuned.detach()
    for wrong in (
        {**vectors, "encoder.block.0.layer.0.SelfAttention.q.lora_a": scale},
        {"encoder.block.0.layer.1.DenseReluDense.wo.multi_lora_b": torch.ones(16, 1)},
    ):
        torch.save(wrong, file)
        with pytest.raises(FrugalError, match=r"is no \(IA\)³ vector of T-Few's"):
            peft.load(model, file)
    torch.save({}, file)
    with pytest.raises(FrugalError, match="holds no parameters"):
        peft.load(model, file)
    torch.save([1], file)
    with pytest.raises(FrugalError, match="holds no adapter that can be read"):
        peft.load(model, file)


class Bomb:
    def __reduce__(self):
        return print, ("unpickled",)


def test_pickled_code_never_runs(tmp_path, capsys):
    torch.save({"x": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(FrugalError, match="holds no adapter"):
        peft.load(build("t5-v1.1"), tmp_path / "bomb.pt")
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "peft_type is PREFIX_TUNING"),
        ({"use_dora": True}, "use_dora is set, which is not supported"),
        ({"bias": "all"}, "bias is set, which is not supported"),
        ({"r": 7}, "lora_a has shape"),
        ({"r": "x"}, "rank must be a whole number"),
    ],
)
def test_peft_folders_that_do_not_fit(changes, message, tmp_path):
    model = build("llama")
    tuned = peft.attach(model, "lora")
    tuned.save(tmp_path)
    tuned.detach()
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(FrugalError, match=message):
        peft.load(model, tmp_path)
    assert not hasattr(model, "_frugal_tuned")
    assert run(model, IDS).requires_grad


@pytest.mark.parametrize("method", ["ia3", "lora", "adapter"])
def test_an_adapter_of_another_model_does_not_fit(method, tmp_path):
    peft.attach(build("llama"), method).save(tmp_path)
    for other in ("bert", "gpt2"):
        with pytest.raises(FrugalError, match="does not fit this model"):
            peft.load(build(other), tmp_path)


def test_broken_files_are_named(tmp_path):
    model = build("llama")
    with pytest.raises(FrugalError, match=r"nowhere: holds no adapter"):
        peft.load(model, tmp_path / "nowhere")
    tuned = peft.attach(model, "adapter")
    tuned.save(tmp_path)
    tuned.detach()
    names = load_file(tmp_path / "frugal_adapter.safetensors").keys()
    assert "model.layers.0.mlp.down_proj.adapter.down" in names
    (tmp_path / "frugal_adapter.safetensors").write_bytes(b"broken")
    with pytest.raises(FrugalError, match="holds no adapter"):
        peft.load(model, tmp_path)
    (tmp_path / "frugal_adapter.json").write_text("{")
    with pytest.raises(FrugalError, match="holds no adapter"):
        peft.load(model, tmp_path)
