"""An adapter goes on the model that it was trained on, and on no other of the same shape."""

import copy
import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BertForMaskedLM, LlamaForCausalLM

import peft as hf
from frugal import peft
from frugal.errors import FrugalError, FrugalWarning
from frugal.peft import bases, surgery
from tiny_models import MODELS, build, llama, randomise, run

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning",  # peft's own
    "ignore:fan_in_fan_out is set to:UserWarning",
)
models = pytest.mark.parametrize("name", MODELS)
methods = pytest.mark.parametrize("method", ["ia3", "lora", "adapter", "bitfit"])


def saved(model, method, folder):
    tuned = peft.attach(model, method)
    randomise(tuned.parameters())
    tuned.save(folder)
    tuned.detach()
    return folder


def other(name):
    """A model of the same shape."""
    model = build(name)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    return model


def named(model, name):
    model.config.name_or_path = name
    return model


@methods
@models
def test_another_model_of_the_same_shape_is_refused_and_both_are_named(name, method, tmp_path):
    model = named(build(name), "hub/one")
    saved(model, method, tmp_path)
    peft.load(model, tmp_path).detach()
    wrong = named(other(name), "hub/two")
    message = "belongs to 'hub/one', whose weights are not those of this one, 'hub/two'"
    with pytest.raises(FrugalError, match=message):
        peft.load(wrong, tmp_path)
    assert not hasattr(wrong, "_frugal_tuned")
    if method in ("ia3", "lora"):
        with pytest.raises(FrugalError, match=message):
            peft.mixed(wrong, {"a": tmp_path})


@methods
def test_a_renamed_folder_of_the_same_model_loads(method, tmp_path):
    build("llama").save_pretrained(tmp_path / "here")
    saved(LlamaForCausalLM.from_pretrained(tmp_path / "here").eval(), method, tmp_path / "tuned")
    (tmp_path / "here").rename(tmp_path / "there")
    again = LlamaForCausalLM.from_pretrained(tmp_path / "there").eval()
    before = run(again)
    peft.load(again, tmp_path / "tuned")
    assert not torch.allclose(run(again), before, atol=1e-3)


HALVES = [torch.bfloat16, torch.float16, torch.float32]


@pytest.mark.parametrize("trained", HALVES)
@pytest.mark.parametrize("used", HALVES)
@pytest.mark.parametrize("name", ["llama", "bert2bert"])
def test_another_float_type_is_the_same_model(name, trained, used, tmp_path):
    """Also where the numbers were rounded once and are float32 again."""
    saved(build(name).to(trained), "ia3", tmp_path)
    for model in (build(name).to(used), build(name).to(used).float()):
        assert peft.load(model, tmp_path).method == "ia3"


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5-v1.1"])
def test_a_merged_or_slightly_tuned_model_is_another(name, tmp_path):
    model = build(name)
    saved(model, "ia3", tmp_path / "ia3")
    merged = build(name)
    tuned = peft.attach(merged, "lora", {"rank": 1})
    randomise(tuned.parameters(), 0.02)
    tuned.merge()
    tuned.save(tmp_path / "lora")  # of the model as it was, not of the merged one
    peft.load(model, tmp_path / "lora").detach()
    del merged._frugal_tuned  # as a copy of its weights would be
    tuned_all = copy.deepcopy(build(name))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in tuned_all.parameters():
            p.add_(1e-3 * torch.randn(p.shape, generator=generator).to(p.device))
    for wrong in (merged, tuned_all):
        for folder in ("ia3", "lora"):
            with pytest.raises(FrugalError, match="whose weights are not those of this one"):
                peft.load(wrong, tmp_path / folder)


def test_heads_that_start_anew_and_embeddings_that_grew_are_no_other_model(tmp_path):
    torch.manual_seed(0)
    base = build("bert")
    base.save_pretrained(tmp_path / "bert")
    saved(base, "ia3", tmp_path / "ia3")
    base.pooler = None
    peft.load(base, tmp_path / "ia3").detach()
    model = llama(vocab_size=4000)
    saved(model, "ia3", tmp_path / "llama")
    model.resize_token_embeddings(4100, mean_resizing=False)
    peft.load(model, tmp_path / "llama")
    with pytest.raises(FrugalError):  # names of the blocks are others
        peft.load(BertForMaskedLM(base.config), tmp_path / "ia3")


@models
def test_a_sample_is_small_and_survives_its_text(name):
    model = build(name)
    sample = bases.sample(model, surgery.layers(model))
    assert sample.shape[0] >= sum(len(list(at.module.parameters())) for at in surgery.layers(model))
    assert torch.equal(bases.decode(bases.encode(sample)), sample)
    for broken in ("x", "AAAA", 3, None, bases.encode(sample)[:-8]):
        decoded = bases.decode(broken)
        assert decoded is None or not bases.same(decoded, sample)
    assert not bases.same(sample * float("nan"), sample)
    assert bases.sample(copy.deepcopy(model).to("meta"), surgery.layers(model.to("meta"))) is None


def foreign(folder, base):
    """A folder as peft writes it, which knows its model by name alone."""
    theirs = hf.get_peft_model(build("llama"), hf.LoraConfig(target_modules=["q_proj"]))
    theirs.save_pretrained(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | base))
    return folder


@pytest.mark.parametrize(
    ("base", "model"),
    [
        ("hub/llama", "hub/llama"),
        ("hub/llama", "/home/me/models/llama/"),
        ("/old/place/Llama", "/new/place/llama"),
        ("C:\\models\\llama", "llama"),
    ],
)
def test_a_name_that_may_be_the_models_is_taken(base, model, tmp_path):
    folder = foreign(tmp_path, {"base_model_name_or_path": base})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peft.load(named(build("llama"), model), folder)


@pytest.mark.parametrize(
    ("base", "model", "said"),
    [
        ("hub/llama", "hub/other", "belongs to 'hub/llama'; whether that is this one, 'hub/other'"),
        (
            "hub/llama",
            "",
            "belongs to 'hub/llama'; whether that is this one, a LlamaForCausalLM wi",
        ),
        (
            None,
            "hub/llama",
            "does not say which model it belongs to; .*'hub/llama', cannot be told",
        ),
        ("", "", "does not say which model"),
    ],
)
def test_a_name_that_is_not_the_models_is_said(base, model, said, tmp_path):
    folder = foreign(tmp_path, {"base_model_name_or_path": base})
    with pytest.warns(FrugalWarning, match=said) as heard:
        peft.load(named(build("llama"), model), folder)
    assert len(heard) == 1
    assert heard[0].filename == __file__


def test_a_revision_is_said(tmp_path):
    folder = foreign(tmp_path, {"base_model_name_or_path": "a/b", "revision": "step5"})
    with pytest.warns(FrugalWarning, match="belongs to revision step5 of 'a/b'"):
        peft.load(named(build("llama"), "a/b"), folder)


def test_what_another_program_wrote_again_knows_its_model_by_name(tmp_path):
    model = named(build("llama"), "hub/one")
    saved(model, "lora", tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file(load_file(file), file)
    peft.load(model, tmp_path).detach()
    with pytest.warns(FrugalWarning, match="belongs to 'hub/one'; whether that is this one"):
        peft.load(named(other("llama"), "hub/two"), tmp_path)


def test_peft_itself_reads_what_names_its_model(tmp_path):
    build("llama").save_pretrained(tmp_path / "base")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "base").eval()
    saved(model, "lora", tmp_path / "lora")
    config = hf.PeftConfig.from_pretrained(tmp_path / "lora")
    assert config.base_model_name_or_path == str(tmp_path / "base")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "lora").eval()  # base and adapter
    peft.load(model, tmp_path / "lora")
    assert torch.allclose(run(theirs), run(model), atol=1e-5)
    with pytest.raises(FrugalError, match="has an adapter of Hugging Face's peft on it already"):
        peft.load(theirs, tmp_path / "lora")  # it would count twice
