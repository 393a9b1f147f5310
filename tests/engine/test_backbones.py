"""Model folders: what people really have is loaded as it is, or named for what is wrong with it."""

import json
import shutil

import pytest
import torch
import transformers as t
from safetensors.torch import load_file, save_file

from frugal.engine import backbones, tiny
from frugal.errors import FrugalError
from tiny_models import bert, gpt2, llama, t5

T5_IDS = {"pad_token_id": 256, "eos_token_id": 257, "decoder_start_token_id": 256}
BYTES = {"vocab_size": 264}


def saved(folder, model):
    model.save_pretrained(folder)
    tiny.byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model") / "good", gpt2(**BYTES))


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "copy")


def load(folder, **options):
    return backbones.load(str(folder), device="cpu", **options)


def edit(folder, name="config.json", **changes):
    file = folder / name
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


def tensors(folder, change):
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


FIRST = "transformer.h.0.ln_1.weight"


def vocabulary(folder, change):
    found = json.loads((folder / "tokenizer.json").read_text())
    change(found["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(found))


def pointer(folder):
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5\n"
    )


def cut(name):
    def spoil(folder):
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(raw[: len(raw) // 2])

    return spoil


def without(*names):
    return lambda folder: [f.unlink() for n in names for f in folder.glob(n)]


def shards(folder):
    index = {"metadata": {}, "weight_map": {"wte.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def evil(folder):
    """Weights whose unpickling would run code."""
    import pickle

    class Code:
        def __reduce__(self):
            return (open, (str(folder / "ran"), "w"))

    without("model.safetensors")(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))


def code(folder):
    """A model type of its own, and Python that would run."""
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    edit(
        folder, model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}
    )


BROKEN = {
    "a Git LFS pointer": (pointer, "Git LFS pointer.*git lfs pull"),
    "weights cut off": (cut("model.safetensors"), "model.safetensors is cut off"),
    "a configuration cut off": (cut("config.json"), "config.json cannot be read"),
    "a tokenizer cut off": (cut("tokenizer.json"), "tokenizer.json cannot be read"),
    "no configuration": (without("config.json"), "no config.json"),
    "no tokenizer": (without("token*"), "tokenizer"),
    "no weights": (without("*.safetensors"), "model.safetensors"),
    "a list for a configuration": (
        lambda f: (f / "config.json").write_text("[]"),
        "config.json holds no JSON object",
    ),
    "a number for a tokenizer": (
        lambda f: (f / "tokenizer.json").write_text("3"),
        "tokenizer.json holds no JSON object",
    ),
    "a configuration of a thousand levels": (
        lambda f: (f / "config.json").write_text("[" * 10**5),
        "config.json is nested too deeply",
    ),
    "a number that is none among the weights": (
        lambda f: tensors(f, lambda w: w["transformer.wte.weight"][3].fill_(float("nan"))),
        "no finite numbers in float32: transformer.wte.weight",
    ),
    "weights that are whole numbers": (
        lambda f: tensors(f, lambda w: w.update({FIRST: w[FIRST].to(torch.int64)})),
        "model.safetensors holds transformer.h.0.ln_1.weight as I64",
    ),
    "a tokenizer that drops a letter": (
        lambda f: vocabulary(f, lambda known: known.pop("q")),
        "its tokenizer drops 'q' from every text",
    ),
    "a length that is a word": (
        lambda f: edit(f, "tokenizer_config.json", model_max_length="x"),
        "its tokenizer's files: ",
    ),
    "a part that is not there": (shards, "names model-00002-of-00002.safetensors"),
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "--adapter"),
    "weights that run code": (evil, "would run code"),
    "Python of its own": (code, "Python code of its own, which is never run"),
    "a tensor less": (
        lambda f: tensors(f, lambda w: w.pop("transformer.h.1.mlp.c_fc.weight")),
        "lack transformer.h.1.mlp.c_fc.weight",
    ),
    "a layer more than it says": (lambda f: edit(f, n_layer=1), "transformer.h.1"),
    "a layer less than it says": (lambda f: edit(f, n_layer=3), "lack transformer.h.2"),
    "another width": (lambda f: edit(f, n_embd=32), "other shapes than its config.json: .*attn"),
    "a vocabulary too small": (
        lambda f: (
            edit(f, vocab_size=200),
            tensors(f, lambda w: w.update({k: w[k][:200] for k in w if "wte" in k})),
        ),
        "ids up to 257, its embeddings have 200 rows",
    ),
    "a type that is unknown": (lambda f: edit(f, model_type="gpt9"), "gpt9"),
    "no type": (lambda f: edit(f, model_type=None, architectures=None), "copy"),
    "sizes that are words": (lambda f: edit(f, n_layer="two"), "config.json"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_named_for_what_is_wrong(folder, name, capsys):
    spoil, why = BROKEN[name]
    spoil(folder)
    with pytest.raises(FrugalError, match=why) as error:
        load(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).count("cannot load") == 1
    assert "no such folder" not in str(error.value)
    assert capsys.readouterr().err == ""
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./none", "a/b/c", "x" * 5000, "a\0b", "~/none", __file__]
)
def test_what_is_no_folder_is_one_error(name):
    with pytest.raises(FrugalError, match="no such folder"):
        backbones.load(name)


def test_a_whole_folder_is_loaded_as_it_is(good):
    weights = load_file(good / "model.safetensors")
    b = load(good)
    assert b.family == "causal"
    assert not b.model.training
    assert all(torch.equal(b.model.state_dict()[k], v) for k, v in weights.items())


def test_a_folder_that_names_no_class_is_what_its_type_is(folder):
    edit(folder, architectures=None)
    assert load(folder).family == "causal"


def test_python_beside_a_known_type_is_not_run(folder):
    code(folder)
    edit(folder, model_type="gpt2")
    assert load(folder).family == "causal"
    assert not (folder / "ran").exists()


def test_unpickled_weights_are_read_without_their_code(folder):
    weights = load_file(folder / "model.safetensors")
    without("model.safetensors")(folder)
    torch.save(weights, folder / "pytorch_model.bin")
    assert torch.equal(load(folder).model.transformer.wte.weight, weights["transformer.wte.weight"])


def test_tables_that_older_versions_saved_are_no_weights(folder):
    tensors(folder, lambda w: w.update({"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}))
    assert load(folder).family == "causal"


def test_an_encoder_needs_no_head_and_no_pooler_but_every_layer(tmp_path):
    folder = saved(tmp_path / "masked", t.BertForMaskedLM(bert(**BYTES).config))
    assert load(folder).family == "encoder"
    for layers, why in ((1, "encoder.layer.1"), (3, "lack encoder.layer.2")):
        edit(folder, num_hidden_layers=layers)
        with pytest.raises(FrugalError, match=why):
            load(folder)


def test_a_decoder_is_no_encoder_for_want_of_its_head(tmp_path):
    folder = saved(tmp_path / "bare", llama(**BYTES).model)
    with pytest.raises(FrugalError, match=r"lack lm_head\.weight"):
        load(folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["folder", "tiny-t5"])
def test_what_overflows_in_a_half_stays_in_float32(tmp_path, name, dtype):
    if name == "folder":
        name = saved(tmp_path / "t5", t5("relu", **BYTES, **T5_IDS))
    model = load(name, precision=dtype).model
    kept = {n for n, p in model.named_parameters() if p.dtype == torch.float32}
    down = {n for n, _ in model.named_parameters() if ".wo." in n}
    assert down
    assert kept == (down if dtype == "float16" else set())
    assert {p.dtype for n, p in model.named_parameters() if n not in kept} == {
        backbones.DTYPES[dtype]
    }


def test_special_signs_without_an_embedding_do_not_matter(folder):
    """As Gemma's sign of an image: no text holds it."""
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<image{i}>" for i in range(9)]})
    tokenizer.save_pretrained(folder)
    assert load(folder).family == "causal"
