"""Folders of Hugging Face's peft in every variant it has: the same logits as peft's, or refused."""

import copy
import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaModel

import peft as hf
from frugal import peft
from frugal.errors import FrugalError
from frugal.peft import configs
from tiny_models import IDS, build, randomise, run

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # peft's own, on each odd variant
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::frugal.errors.FrugalWarning"),  # no model here has a name
]


def made(config, folder, name="llama"):
    """A folder of peft's, moved from its start; the model that it is for, and peft's logits."""
    model = build(name)
    torch.manual_seed(2)
    theirs = hf.get_peft_model(copy.deepcopy(model), config).eval()
    randomise(p for p in theirs.parameters() if p.requires_grad)
    theirs.save_pretrained(folder)
    again = hf.PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()
    return model, run(again.base_model.model)


def assert_same(model, folder, expected):
    """The folder loads, and the logits are peft's."""
    tuned = peft.load(model, folder)
    assert (run(model) - expected).abs().max() < 1e-4
    tuned.detach()


def lora(**more):
    return hf.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]} | more)


def ia3(**more):
    targets = {"target_modules": ["k_proj", "v_proj", "down_proj"]}
    return hf.IA3Config(**targets | {"feedforward_modules": ["down_proj"]} | more)


PLAIN = {
    "lora": lora(),
    "rslora": lora(use_rslora=True),
    "rslora of rank 3": lora(use_rslora=True, r=3),
    "alpha of a fraction": lora(lora_alpha=0.5),
    "alpha below 0": lora(lora_alpha=-2),
    "dropout": lora(lora_dropout=0.3),
    "start at random": lora(init_lora_weights=False),
    "gaussian": lora(init_lora_weights="gaussian"),
    "orthogonal": lora(init_lora_weights="orthogonal"),
    "eva": lora(init_lora_weights="eva", eva_config=hf.EvaConfig()),
    "causal": lora(task_type="CAUSAL_LM"),
    "fan in": lora(fan_in_fan_out=True),
    "targets as a pattern": lora(target_modules=r".*\.(k|o)_proj"),
    "targets of one layer, as a pattern": lora(target_modules=r".*layers\.1\..*_proj"),
    "all linear": lora(target_modules="all-linear"),
    "one layer": lora(layers_to_transform=1),
    "layers": lora(layers_to_transform=[0, 1]),
    "layers by pattern": lora(layers_to_transform=[0], layers_pattern="layers"),
    "layers by patterns": lora(layers_to_transform=[1], layers_pattern=["h", "layers"]),
    "whole names": lora(
        target_modules=[f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)],
    ),
    "without some": lora(target_modules=["q_proj", "v_proj"], exclude_modules=["v_proj"]),
    "without a pattern": lora(exclude_modules=r".*layers\.0.*"),
    "ia3": ia3(),
    "ia3 at random": ia3(init_ia3_weights=False),
    "ia3 of patterns": ia3(
        target_modules=r".*(v_proj|down_proj)", feedforward_modules=r".*down_proj"
    ),
    "ia3 of the output alone": ia3(target_modules=["v_proj"], feedforward_modules=[]),
    "ia3 without a layer": ia3(exclude_modules=r".*layers\.1.*"),
}


@pytest.mark.parametrize("what", PLAIN)
def test_plain_adapters_load(what, tmp_path):
    model, expected = made(copy.deepcopy(PLAIN[what]), tmp_path)
    assert_same(model, tmp_path, expected)


REFUSED = {
    "pissa": (lora(init_lora_weights="pissa"), "init_lora_weights = 'pissa'"),
    "pissa, fast": (lora(init_lora_weights="pissa_niter_4"), "init_lora_weights = 'pissa_niter_4'"),
    "olora": (lora(init_lora_weights="olora"), "init_lora_weights = 'olora'"),
    "mica": (lora(init_lora_weights="mica"), "init_lora_weights = 'mica'"),
    "dora": (lora(use_dora=True), "use_dora = True"),
    "alora": (
        lora(alora_invocation_tokens=[7, 9], task_type="CAUSAL_LM"),
        r"alora_invocation_tokens = \[7, 9\]",
    ),
    "rank by module": (lora(rank_pattern={"v_proj": 2}), "rank_pattern = {'v_proj': 2}"),
    "alpha by module": (lora(alpha_pattern={"v_proj": 2}), "alpha_pattern = {'v_proj': 2}"),
    "bias": (lora(bias="lora_only"), "bias = 'lora_only'"),
    "modules to save": (lora(modules_to_save=["lm_head"]), r"modules_to_save = \['lm_head'\]"),
    "trained tokens": (lora(trainable_token_indices=[1, 2]), r"trainable_token_indices = \[1, 2\]"),
    "layers repeated": (
        lora(layer_replication=[(0, 2), (1, 2)], target_modules=["q_proj"]),
        "layer_replication = ",
    ),
    "parameters": (
        lora(target_modules=["q_proj"], target_parameters=["mlp.up_proj.weight"]),
        "target_parameters = ",
    ),
    "output embeddings": (
        lora(target_modules=["q_proj", "lm_head"]),
        "lm_head.base_layer.weight is no tensor",
    ),
    "embeddings": (lora(target_modules=["q_proj", "embed_tokens"]), "embed_tokens"),
    "ia3 in front of keys": (
        ia3(target_modules=["k_proj"], feedforward_modules=["k_proj"]),
        "scales the input of model.layers.0.self_attn.k_proj",
    ),
    "ia3 behind the feed-forward": (
        ia3(target_modules=["down_proj"], feedforward_modules=[]),
        "scales the output of model.layers.0.mlp.down_proj",
    ),
    "ia3 and modules to save": (ia3(modules_to_save=["lm_head"]), "modules_to_save = "),
    "one module of each layer": (
        lora(target_modules=["layers.0.self_attn.q_proj", "layers.1.self_attn.v_proj"]),
        "does not fit this model",
    ),
    "adalora": (
        hf.AdaLoraConfig(target_modules=["q_proj"], total_step=9),
        "peft_type is 'ADALORA', not IA3 or LORA",
    ),
    "loha": (hf.LoHaConfig(target_modules=["q_proj"]), "peft_type is 'LOHA'"),
    "vera": (hf.VeraConfig(target_modules=["q_proj"]), "peft_type is 'VERA'"),
    "norms": (hf.LNTuningConfig(target_modules=["input_layernorm"]), "peft_type is 'LN_TUNING'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_adapters_are_refused_by_name(what, tmp_path):
    config, message = REFUSED[what]
    config = copy.deepcopy(config)
    model = build("llama")
    hf.get_peft_model(copy.deepcopy(model), config).save_pretrained(tmp_path)
    with pytest.raises(FrugalError, match=message):
        peft.load(model, tmp_path)
    assert run(model).requires_grad


def test_every_field_of_peft_is_decided_on():
    """A new version's new field is refused until someone has looked at it; so are its fields of
    today that are in no list, at any value that says something."""
    decided = configs.PlainLoRA.model_fields | configs.PlainIA3.model_fields
    for config in (lora(), ia3()):
        said = {f.name for f in dataclasses.fields(config)} - {"runtime_config"}
        for name in said - decided.keys():
            value = config.to_dict()[name]
            assert value in (None, {}, []) or (name.startswith("use_") and value is False), name


CONVERTED = [("pissa", False), ("pissa", True), ("pissa_niter_4", False), ("olora", False)]


@pytest.mark.parametrize(("start", "rslora"), CONVERTED)
def test_what_peft_converts_to_plain_lora_loads(start, rslora, tmp_path):
    model = build("llama")
    config = lora(init_lora_weights=start, use_rslora=rslora)
    theirs = hf.get_peft_model(copy.deepcopy(model), config).eval()
    theirs.peft_config["default"].init_lora_weights = True
    theirs.save_pretrained(tmp_path / "start")
    theirs.peft_config["default"].init_lora_weights = start
    randomise(p for p in theirs.parameters() if p.requires_grad)
    expected = run(theirs.base_model.model)
    theirs.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    assert_same(model, tmp_path / "plain", expected)
    assert json.loads((tmp_path / "plain" / "adapter_config.json").read_text())["r"] == 8


def pairs(values):
    return [(field, value) for field, several in values.items() for value in several]


UNKNOWN = {
    "future": ["x", 0, False, True, "", {"a": None}, [None]],  # False may turn off a default
    "use_future": [True, 0],
    "r": [True, 0, 4.0, None, 2**40],
    "lora_alpha": ["6", None, 10**40],
    "bias": [None, "all"],
    "init_lora_weights": [None, 1, "Pissa", "loftq", "lora_ga", "corda"],
    "corda_config": [{"corda_method": "kpm"}],
    "loftq_config": [{"loftq_bits": 4}],
    **dict.fromkeys(["use_qalora", "lora_bias", "ensure_weight_tying"], (True,)),
    "use_bdlora": [{"nblocks": 2}],
    "kasa_config": [{"beta": 1}],
    **{f"{of}_config": [{"a": 1}] for of in ("velora", "monteclora", "arrow", "megatron")},
    "runtime_config": [{"ephemeral_gpu_offload": True}],
    "task_type": ["SEQ_CLS", ["CAUSAL_LM"]],
    "peft_type": ["lora", ["LORA"], None],
    "target_modules": [
        *(None, [1], "all-linear", "(", [], ["q_proj"]),
        *(["q_proj", "v_proj", "k_proj"], ["q_proj", "v_proj", "self_attn"]),
    ],
    "exclude_modules": [["v_proj"], {"v_proj": 1}],
    "layers_to_transform": [[0], "0"],
    "layers_pattern": [1],
    "base_model_name_or_path": [3],
    "inference_mode": ["yes"],
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return *made(lora(), folder), folder


def edited(plain, tmp_path, **changes):
    """A copy of the plain folder with another configuration."""
    *_, folder = plain
    config = json.loads((folder / "adapter_config.json").read_text()) | changes
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(load_file(folder / "adapter_model.safetensors"), tmp_path / _TENSORS)
    return tmp_path


_TENSORS = "adapter_model.safetensors"


@pytest.mark.parametrize(("field", "value"), pairs(UNKNOWN))
def test_a_field_with_an_unknown_value_is_refused(field, value, plain, tmp_path):
    with pytest.raises(FrugalError) as error:
        peft.load(plain[0], edited(plain, tmp_path, **{field: value}))
    known = "target" in field or "layers" in field or "exclude" in field
    assert (
        known or field in str(error.value) or f"{str(value)[:30]} is no number" in str(error.value)
    )


NEUTRAL = {
    "future": [None, {}, []],
    **dict.fromkeys(["use_future", "merge_weights", "inference_mode"], (False,)),
    **dict.fromkeys(["use_dora", "rank_pattern"], (None,)),
    **dict.fromkeys(["modules_to_save", "layers_to_transform"], ([],)),
    "qalora_group_size": [32],
    "peft_version": ["0.99.0"],
    "auto_mapping": [{"base_model_class": "LlamaForCausalLM"}],
    "target_modules": [["v_proj", "q_proj"]],
}


@pytest.mark.parametrize(("field", "value"), pairs(NEUTRAL))
def test_a_field_that_says_nothing_may_stand(field, value, plain, tmp_path):
    model, expected, _ = plain
    assert_same(model, edited(plain, tmp_path, **{field: value}), expected)


def test_configurations_of_the_first_versions_load(plain, tmp_path):
    """They lack most fields, and have some that are gone."""
    model, expected, folder = plain
    config = json.loads((folder / "adapter_config.json").read_text())
    keys = ("peft_type", "r", "lora_alpha", "lora_dropout", "bias", "target_modules", "task_type")
    old = {key: config[key] for key in keys}
    old |= {"enable_lora": None, "merge_weights": False, "fan_in_fan_out": False}
    save_file(load_file(folder / _TENSORS), tmp_path / _TENSORS)
    (tmp_path / "adapter_config.json").write_text(json.dumps(old))
    assert_same(model, tmp_path, expected)
    for needed in ("r", "lora_alpha", "target_modules"):
        left = {key: value for key, value in old.items() if key != needed}
        (tmp_path / "adapter_config.json").write_text(json.dumps(left))
        with pytest.raises(FrugalError, match=f"says nothing of {needed}"):
            peft.load(model, tmp_path)


A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def longer(tensors):
    b = A.replace("lora_A", "lora_B")
    return tensors | {b: torch.cat([tensors[b], tensors[b]])}


def without(part):
    return lambda t: {k: v for k, v in t.items() if part not in k}


def with_(name, change=torch.clone):
    return lambda t: t | {name: change(t[A])}


def named(*how, value=None):
    """Another tensor beside A, under A's name with one part of it replaced."""
    return with_(A.replace(*how), torch.clone if value is None else lambda _: value)


DAMAGED = {
    "missing": (without(A), "q_proj.lora_A.weight is missing"),
    "a module missing": (
        without("0.self_attn.q_proj"),
        "layers.0.self_attn.q_proj.lora_A.weight is missing",
    ),
    "a role missing": (without("v_proj"), "v_proj.lora_A.weight is missing"),
    "a layer missing": (without("layers.1"), "layers.1.self_attn.q_proj.lora_A.weight is missing"),
    "none": (without(""), "is missing"),
    "more rows than the module": (longer, r"q_proj.lora_B has shape \(32, 4\), not \(16, 4\)"),
    "wrong rank": (
        with_(A, lambda a: a[:2].clone()),
        r"q_proj.lora_A has shape \(2, 16\), not \(4, 16\)",
    ),
    "transposed": (with_(A, lambda a: a.T.contiguous()), "q_proj.lora_A has shape"),
    "one axis": (with_(A, torch.flatten), "q_proj.lora_A has shape"),
    "nan": (with_(A, lambda a: a * float("nan")), "q_proj.lora_a holds a value that is not finite"),
    "inf": (with_(A, lambda a: a / 0), "q_proj.lora_a holds a value that is not finite"),
    "whole numbers": (with_(A, lambda a: a.to(torch.int8)), "q_proj.lora_a holds torch.int8"),
    "complex": (with_(A, lambda a: a.to(torch.complex64)), "q_proj.lora_a holds torch.complex64"),
    "too large for float32": (
        with_(A, lambda a: a.double() * 1e300),
        "q_proj.lora_a holds a value that is not finite",
    ),
    "a tensor more": (
        named("q_proj", "k_proj"),
        "has tensors of model.layers.0.self_attn.k_proj, which target_modules",
    ),
    "a bias": (
        named("A.weight", "B.bias", value=torch.ones(16)),
        "lora_B.bias is no tensor of a plain LORA",
    ),
    "a magnitude": (
        named("A.weight", "magnitude_vector", value=torch.ones(16)),
        "lora_magnitude_vector is no tensor of a plain LORA",
    ),
    "of embeddings": (
        named("lora_A.weight", "lora_embedding_A"),
        "lora_embedding_A is no tensor",
    ),
    "a head": (
        lambda t: t | {"base_model.model.lm_head.weight": torch.ones(50, 16)},
        "lm_head.weight is no tensor",
    ),
    "the adapter's name": (named("A.", "A.default."), "lora_A.default.weight is no tensor"),
    "without the prefix": (
        lambda t: {k.removeprefix("base_model.model."): t[k] for k in t},
        "is no tensor of a plain LORA",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_tensors_that_are_not_the_configurations_are_refused(what, plain, tmp_path):
    (model, *_), (change, message) = plain, DAMAGED[what]
    folder = edited(plain, tmp_path)
    save_file(change(load_file(folder / _TENSORS)), folder / _TENSORS)
    with pytest.raises(FrugalError, match=message):
        peft.load(model, folder)
    assert not hasattr(model, "_frugal_tuned")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_read_as_they_are(dtype, plain, tmp_path):
    model, *_ = plain
    folder = edited(plain, tmp_path)
    tensors = {k: v.to(dtype) for k, v in load_file(folder / _TENSORS).items()}
    save_file(tensors, folder / _TENSORS)
    theirs = hf.PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()
    assert_same(model, folder, run(theirs.base_model.model))


def test_tensors_as_torch_wrote_them(plain, tmp_path):
    """`adapter_model.bin`, of peft before 0.7; peft itself prefers the safetensors."""
    model, expected, _ = plain
    folder = edited(plain, tmp_path)
    tensors = load_file(folder / _TENSORS)
    file = folder / "adapter_model.bin"
    torch.save({k: torch.zeros_like(v) for k, v in tensors.items()}, file)
    assert_same(model, folder, expected)
    (folder / _TENSORS).unlink()
    torch.save(tensors, file)
    assert_same(model, folder, expected)
    whole = file.read_bytes()
    at = whole.index(tensors[A].numpy().tobytes()[:32]) + 3
    for broken in (
        whole[: len(whole) // 2],
        whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :],  # one bit of one number
        b"",
    ):
        file.write_bytes(broken)
        with pytest.raises(FrugalError, match=r"adapter_model\.bin: holds no adapter that can be"):
            peft.load(model, folder)


def test_an_encoders_adapter_does_not_fit_the_causal_model(tmp_path):
    """Same shapes, other names: the blocks are a level higher."""
    model = build("llama")
    inner = LlamaModel(model.config).eval()
    hf.get_peft_model(inner, lora()).save_pretrained(tmp_path)
    with pytest.raises(FrugalError, match="does not fit this model"):
        peft.load(model, tmp_path)


def test_a_model_that_carries_pefts_adapter_is_refused(plain):
    model, _, folder = plain
    theirs = hf.PeftModel.from_pretrained(copy.deepcopy(model), folder)
    for carrying in (theirs, theirs.base_model.model):
        with pytest.raises(FrugalError, match="has an adapter of Hugging Face's peft on it"):
            peft.load(carrying, folder)


def test_weighted_and_merged_adapters_of_peft(tmp_path):
    """What peft adds up of two adapters, with weights of inference, is a plain LoRA once saved."""
    model = build("llama")
    theirs = hf.get_peft_model(copy.deepcopy(model), lora(), "a").eval()
    theirs.add_adapter("b", lora(r=2))
    for name in ("a", "b"):
        theirs.set_adapter(name)
        randomise(p for p in theirs.parameters() if p.requires_grad)
    theirs.add_weighted_adapter(["a", "b"], [0.7, 0.5], "both", combination_type="cat")
    theirs.set_adapter("both")
    expected = run(theirs.base_model.model)
    theirs.save_pretrained(tmp_path, selected_adapters=["both"])
    assert_same(model, tmp_path / "both", expected)
    with pytest.raises(FrugalError, match="holds no adapter; neither"):
        peft.load(model, tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "t5-v1.1", "bert"])
@pytest.mark.parametrize("targets", ["all-linear", ".*(q|query|c_attn|o|wo|c_proj|output.dense)"])
def test_other_architectures_in_every_module(name, targets, tmp_path):
    config = lora(target_modules=targets, fan_in_fan_out=name == "gpt2", exclude_modules="pooler.*")
    model, expected = made(config, tmp_path, name)
    assert_same(model, tmp_path, expected)


@pytest.mark.parametrize("value", [1.0, 2.0])
def test_ia3_of_a_fused_projection(value, tmp_path):
    """GPT-2's queries are scaled with its keys and values, in one layer alone too."""
    model = build("gpt2")
    config = ia3(target_modules=["c_attn"], feedforward_modules=[], fan_in_fan_out=True)
    theirs = hf.get_peft_model(copy.deepcopy(model), config).eval()
    randomise(p for p in theirs.parameters() if p.requires_grad)
    with torch.no_grad():
        scales = [p for p in theirs.parameters() if p.requires_grad]
        for scale in scales:
            scale[:16] = 1.0
        scales[0][3] = value
    theirs.save_pretrained(tmp_path)
    assert_same(model, tmp_path, run(theirs.base_model.model))
    tuned = peft.load(model, tmp_path)
    assert tuned.parts[0].options["targets"] == (["k", "v"] if value == 1 else ["q", "k", "v"])
    assert model(input_ids=IDS).logits.requires_grad
