"""Folders of Hugging Face's peft in both directions, and T-Few's released checkpoints."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import peft as hf
from frugal import peft
from frugal.errors import FrugalError
from tiny_models import IDS, MODELS, build, randomise, run

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning",  # peft's own
    "ignore:fan_in_fan_out is set to:UserWarning",
    "ignore:.*does not say which model it belongs to:frugal.errors.FrugalWarning",
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
    "llama": ["q_proj", "v_proj"], "t5-v1.0": ["q", "v"], "t5-v1.1": ["k", "wi_0", "wi_1"],
    "bert": "all-linear", "bert2bert": ["query", "value"], "roberta": ["query", "output.dense"],
    "gpt2": ["c_attn", "c_fc"],
}  # fmt: skip
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
    first = next(iter(vectors))
    for wrong, message in (
        ({}, "holds no parameters"),
        ([1], "holds no adapter that can be read"),
        ({1: torch.ones(1)}, "holds no adapter that can be read"),
        ({**vectors, first: 1.0}, "holds no adapter that can be read"),
        ({**vectors, first: vectors[first].T}, rf"{first} has shape \(1, 12\), not \(12, 1\)"),
        ({**vectors, first: vectors[first][:, 0]}, "has shape"),
        ({**vectors, first: vectors[first].expand(-1, 2)}, "has shape"),
        ({**vectors, first: vectors[first] * float("nan")}, "holds a value that is not finite"),
        ({n: v for n, v in vectors.items() if n != first}, "1 names differ"),
        ({n: v for n, v in vectors.items() if "decoder" not in n}, "has vectors of 2 of 5 layers"),
    ):
        torch.save(wrong, file)
        with pytest.raises(FrugalError, match=message):
            peft.load(model, file)
        assert not hasattr(model, "_frugal_tuned")


def test_checkpoint_of_tfew_without_a_gated_feed_forward(tmp_path):
    """T-Few's pattern wi_1 finds nothing in T5 v1.0; wi's scale would be in front of the ReLU."""
    model = build("t5-v1.0")
    generator = torch.Generator().manual_seed(0)
    plain, vectors = copy.deepcopy(model), {}
    with torch.no_grad():
        for name, module in plain.named_modules():
            if name.endswith((".k", ".v")):
                scale = torch.randn(module.out_features, 1, generator=generator)
                vectors[f"{name}.multi_lora_b"] = scale
                module.weight.mul_(scale)
    torch.save(vectors, tmp_path / "finish.pt")
    tuned = peft.load(model, tmp_path / "finish.pt")
    assert torch.allclose(run(model), run(plain), atol=1e-5)
    tuned.detach()
    vectors["encoder.block.0.layer.1.DenseReluDense.wi.multi_lora_b"] = -torch.ones(24, 1)
    torch.save(vectors, tmp_path / "finish.pt")
    with pytest.raises(FrugalError, match=r"DenseReluDense.wi.multi_lora_b is no \(IA\)³ vector"):
        peft.load(model, tmp_path / "finish.pt")


def test_a_damaged_checkpoint_of_tfew_is_one_error(tmp_path):
    """Cut anywhere, or with one bit of one number the other way."""
    model, file = build("t5-v1.1"), tmp_path / "finish.pt"
    names = [n for n, _ in model.named_modules() if n.endswith((".k", ".v"))]
    scale = torch.rand(12, 1)
    torch.save({f"{name}.multi_lora_b": scale.clone() for name in names}, file)
    peft.load(model, file).detach()
    whole = file.read_bytes()
    at = whole.index(scale.numpy().tobytes()) + 2
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    for broken in [flipped, *(whole[: len(whole) * n // 7] for n in range(7))]:
        file.write_bytes(broken)
        with pytest.raises(FrugalError, match=r"finish\.pt: holds no adapter that can be read"):
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
        ({"peft_type": "PREFIX_TUNING"}, "peft_type is 'PREFIX_TUNING', not IA3 or LORA"),
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"bias": "all", "use_dora": True}, "bias = 'all', use_dora = True is not supported"),
        ({"r": "x"}, "r = 'x' is not supported"),
        ({"r": 7}, "is damaged or was edited"),
        ({"lora_alpha": 2.0}, "is damaged or was edited"),
        ({"use_rslora": True}, "is damaged or was edited"),
        ({"target_modules": ["q_proj"]}, "is damaged or was edited"),
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


METHOD_FILES = {
    "ia3": ("ia3", None),
    "lora": ("lora", {"alpha": 2.0}),
    "adapter": ("adapter", {"size": 4}),
    "prefix": ("prefix", {"tokens": 3}),
    "said": ("said", {"dimension": 400}),
}


@pytest.mark.parametrize("what", METHOD_FILES)
def test_a_bit_of_a_saved_number_that_turns_is_noticed(what, tmp_path):
    """Each is a finite number still; there is nothing else to notice it by."""
    model = build("llama")
    tuned = peft.attach(model, *METHOD_FILES[what])
    randomise(tuned.parameters())
    tuned.save(tmp_path)
    tuned.detach()
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    for at in range(-4, -200, -45):
        broken = bytearray(whole)
        broken[at] ^= 1
        file.write_bytes(broken)
        with pytest.raises(FrugalError, match="is damaged or was edited"):
            peft.load(model, tmp_path)
    for entry in (b"frugal", b"base", b"digest"):  # without which nothing could be compared
        at = whole.index(b"__metadata__")
        name = whole.index(entry, at) + 1
        file.write_bytes(whole[:name] + bytes([whole[name] ^ 1]) + whole[name + 1 :])
        with pytest.raises(FrugalError, match=r"unknown entry|is damaged or was edited"):
            peft.load(model, tmp_path)
    file.write_bytes(whole)
    peft.load(model, tmp_path).detach()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"method": "lora", "options": {"rank": 10**9}, "layers": None}, "rank = 1000000000 does"),
        ({"method": "prefix", "options": {"tokens": 10**9}, "layers": None}, "tokens = 10000000"),
        ({"method": "adapter", "options": {"size": 4}, "layers": [0, 0]}, "a layer is named twice"),
        ({"method": "adapter", "options": {"size": 4}, "layers": "01"}, "layers must be whole"),
        ({"method": "adapter", "options": {"size": 4}, "layers": [True]}, "layers must be whole"),
        ({"method": "adapter", "options": {"size": 4}, "layers": []}, "no layer is named"),
        ({"method": "adapter", "options": {"size": 4}, "layers": [7]}, "there is no layer 7"),
        ({"method": "adapter", "options": {"size": 4}}, "is no part of an adapter"),
        ({"method": "adapter", "options": {"siez": 4}, "layers": None}, "did you mean 'size'"),
        ({"method": "adapter", "options": [4], "layers": None}, "options must be a mapping"),
        ({"method": ["adapter"], "options": {}, "layers": None}, "unknown method"),
        ({"method": "adaptor", "options": {}, "layers": None}, "did you mean 'adapter'"),
        ({"method": "fish", "options": {"share": 1e999}, "layers": None}, "1e999 is no number"),
        ({"method": "lora", "options": {"alpha": 1e999}, "layers": None}, "1e999 is no number"),
        (
            {"method": "said", "options": {"seed": 2**70}, "layers": None},
            "is no number that is read",
        ),
        ({"method": "said", "options": {"seed": "x"}, "layers": None}, "seed must be a whole"),
        ("adapter", "is no part of an adapter"),
    ],
)
def test_what_an_adapter_of_ours_cannot_say(part, message, tmp_path):
    """In a folder without a digest, as this project wrote them at first."""
    model = build("llama")
    tuned = peft.attach(model, "adapter", {"size": 4})
    tuned.save(tmp_path)
    tuned.detach()
    without_digest(tmp_path)
    file = tmp_path / "frugal_adapter.json"
    config = json.loads(file.read_text())
    peft.load(model, tmp_path).detach()
    text = json.dumps(config | {"parts": [part]})
    file.write_text(text.replace("Infinity", "1e999"))  # which is JSON, and no float
    with pytest.raises(FrugalError, match=message):
        peft.load(model, tmp_path)
    for wrong, message in (
        ({"parts": config["parts"] * 2}, "is in another part already"),
        ({"parts": []}, "holds no parameters"),
        ({"parts": {}}, "parts of frugal_adapter.json is {}, no list"),
        ({"scale": 2}, "scale is no field of frugal_adapter.json"),
        ({"model_type": {"value": "llama"}}, "model_type of frugal_adapter.json is"),
        ({"trainable_params": True}, "trainable_params of frugal_adapter.json is True, no int"),
        ({"base_model_name_or_path": ["x"]}, "base_model_name_or_path of"),
        ({"model_type": "mistral"}, "belongs to a model of type mistral; this one is llama"),
    ):
        file.write_text(json.dumps(config | wrong))
        with pytest.raises(FrugalError, match=message):
            peft.load(model, tmp_path)
    assert not hasattr(model, "_frugal_tuned")


@pytest.mark.parametrize("index", [[5, 4], [4, 4], [-1, 3], [0, 10**9]])
def test_an_index_that_names_no_parameters_is_refused(index, tmp_path):
    model = build("llama")
    total = sum(p.numel() for p in model.parameters())
    tuned = peft.attach(model, "fish", {"share": 2.5 / total}, losses=[run(model).square().mean()])
    tuned.save(tmp_path)
    tuned.detach()
    without_digest(tmp_path)
    peft.load(model, tmp_path).detach()
    file = tmp_path / "frugal_adapter.safetensors"
    tensors = load_file(file)
    assert tensors["fish.index"].shape == (2,)
    save_file(tensors | {"fish.index": torch.tensor(index)}, file)
    with pytest.raises(FrugalError, match=r"fish\.index does not name"):
        peft.load(model, tmp_path)


def without_digest(folder):
    """Write a folder's tensors as another program would."""
    (file,) = folder.glob("*.safetensors")
    save_file(load_file(file), file)


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
    for text in ("{", "[]", "3", "", "\xff", '{"parts": NaN}', "[" * 100_000):
        (tmp_path / "frugal_adapter.json").write_text(text, encoding="latin-1")
        with pytest.raises(FrugalError, match="holds no adapter"):
            peft.load(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FrugalError, match="holds more than one adapter; both"):
        peft.load(model, tmp_path)
