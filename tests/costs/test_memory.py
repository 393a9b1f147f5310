"""Bytes: against the papers' numbers, torch's own optimisers, and what autograd keeps."""

import pytest
import torch

from frugal.costs import arch, memory, methods
from frugal.errors import FrugalError
from tiny_models import bert, gpt2, llama, t5


def test_kv_cache_of_the_paper():
    cache = memory.kv_cache(arch.get("gpt3-175b"), 32 * 512)
    assert cache == 154_618_822_656 == 144 * memory.GIB


def test_grouped_heads_and_cross_attention():
    llama = arch.get("llama3-8b")
    assert memory.kv_cache(llama, 10, dtype="bfloat16") == 2 * 32 * 8 * 128 * 10 * 2
    t0 = arch.get("t0-3b")
    both = memory.kv_cache(t0, 3, source_tokens=100)
    assert both == 2 * 24 * 2048 * 103 * 4


def test_adapter_of_the_paper():
    assert methods.trainable(arch.get("t0-11b"), "ia3") == 1_081_344
    assert memory.adapter(arch.get("t0-11b"), "ia3") == 4 * 1_081_344


THREE = {"num_hidden_layers": 3}
SMALL = {
    "llama": lambda: llama(**THREE),
    "gpt2": lambda: gpt2(n_layer=3),
    "bert": lambda: bert(**THREE),
    "t5": lambda: t5("gated-gelu", num_layers=3),
}


def run(model, family, batch, prompt, target):
    ids = torch.zeros(batch, prompt, dtype=torch.long)
    extra = {"decoder_input_ids": ids[:, :1].repeat(1, target)} if family == "t5" else {}
    return model(input_ids=ids, **extra)[0].float().log_softmax(-1).sum()


@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_optimizer_state_equals_torch(family, optimizer):
    model = SMALL[family]()
    classes = {"adamw": torch.optim.AdamW, "adafactor": torch.optim.Adafactor}
    torch_optimizer = classes[optimizer](model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch_optimizer.step()
    numbers = sum(
        value.numel()
        for state in torch_optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value) and value.dim()  # the step counter is one number a tensor
    )
    expected = memory.optimizer_state(arch.from_config(model.config), "full", optimizer)
    assert expected == 4 * numbers


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("frozen", [False, True], ids=["full", "frozen"])
@pytest.mark.parametrize(("batch", "prompt"), [(1, 12), (3, 60)])
def test_activations_lie_in_the_band(family, frozen, batch, prompt):
    model = SMALL[family]().train()
    model.set_attn_implementation("eager")
    if frozen:
        model.requires_grad_(False)
        model.get_input_embeddings().weight.requires_grad_(True)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        alive.append(tensor)  # a freed tensor's address could be given out again
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(model, family, batch, prompt, 5)
    lengths = {"target_tokens": 5} if family == "t5" else {}
    band = memory.activations(
        arch.from_config(model.config), prompt_tokens=prompt, batch=batch, **lengths
    )
    assert band.low <= sum(kept.values()) <= band.high


def test_weights_equal_transformers():
    model = bert()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    assert memory.weights(arch.from_config(model.config)) == size


def test_fits_on_and_its_inverse():
    assert memory.fits_on(40 * memory.GIB)[0] == "a100-40gb"
    assert memory.fits_on(40 * memory.GIB + 1)[0] in ("a40", "a6000")
    a, limit = arch.get("llama3-8b"), 24 * memory.GIB
    lengths = {"example_tokens": 98, "query_tokens": 103, "dtype": "bfloat16"}
    shots = memory.largest_shots(a, limit, **lengths)

    def needs(k):
        return memory.weights(a, "bfloat16") + memory.kv_cache(a, 98 * k + 103, dtype="bfloat16")

    assert needs(shots) <= limit < needs(shots + 1)
    assert memory.largest_shots(a, memory.GIB, **lengths) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: memory.weights(arch.get("t0-3b"), "float23"), "did you mean 'float32'"),
        (lambda: memory.kv_cache(arch.get("minilm-l6"), 3), "keeps no K/V cache"),
        (lambda: memory.kv_cache(arch.get("llama3-8b"), -3), "tokens"),
        (lambda: memory.kv_cache(arch.get("llama3-8b"), 3, source_tokens=1), "source_tokens"),
        (lambda: memory.optimizer_state(arch.get("t0-3b"), "ia3", "adam"), "did you mean 'adamw'"),
        (lambda: memory.gpu("a100-80"), "did you mean 'a100-80gb'"),
    ],
)
def test_nonsense_is_one_clear_error(call, message):
    with pytest.raises(FrugalError, match=message):
        call()
