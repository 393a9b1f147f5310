"""An encoder–decoder on a pretrained encoder: MiniLM reads, a decoder of two layers answers.

Its decoder speaks MiniLM's vocabulary through MiniLM's embeddings, which stay frozen, as do the
encoder's embeddings and lowest layers. So what a training adds is small: `save` writes that alone,
in half precision, and `load` puts it on the pinned MiniLM again.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from frugal.engine import digests, files
from frugal.errors import FrugalError

BASE = "minilm-l6"
WEIGHTS = "beyond_base.safetensors"  # marks a folder as one that `save` wrote
ABOUT = "about.json"  # how it was trained, and the sha256 of the weights
DECODER_LAYERS = 2
FROZEN_LAYERS = 2  # of the encoder's six


def build(seed: int = 0) -> tuple[Any, Any]:
    """The untrained model and MiniLM's tokenizer.

    The decoder's layers start as the encoder's last ones, its cross-attention too (Rothe et al.
    2020 start the rest so); `seed` draws what is left, the map from states to the vocabulary.
    """
    from transformers import AutoTokenizer, BertConfig, BertModel

    from frugal.engine import artifacts

    folder = artifacts.member(BASE, "model/config.json").parent
    encoder = BertModel(BertConfig.from_pretrained(folder))
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.position_ids")  # 0, 1, 2, …: no weight
    encoder.load_state_dict(weights)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _empty(encoder.config, tokenizer)
    model.encoder.load_state_dict(encoder.state_dict())
    model.decoder.bert.embeddings.load_state_dict(encoder.embeddings.state_dict())
    for layer, source in zip(
        model.decoder.bert.encoder.layer, encoder.encoder.layer[-DECODER_LAYERS:], strict=True
    ):
        # Attention within a text is a start for attention to what was read, too.
        layer.attention.load_state_dict(source.attention.state_dict())
        layer.crossattention.load_state_dict(source.attention.state_dict())
        layer.intermediate.load_state_dict(source.intermediate.state_dict())
        layer.output.load_state_dict(source.output.state_dict())
    return model.eval(), tokenizer


def _empty(config: Any, tokenizer: Any) -> Any:
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    decoder = BertConfig(**{**config.to_dict(), "num_hidden_layers": DECODER_LAYERS})
    return EncoderDecoderModel(
        EncoderDecoderConfig.from_encoder_decoder_configs(
            BertConfig(**config.to_dict()),
            decoder,
            pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    )


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name: the decoder's and the encoder's upper ones."""
    frozen = [f"encoder.encoder.layer.{i}." for i in range(FROZEN_LAYERS)]
    frozen += ["encoder.embeddings.", "encoder.pooler.", "decoder.bert.embeddings."]
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith(tuple(frozen))
    }


def save(model: nn.Module, folder: Path, about: dict[str, Any]) -> Path:
    """Write what was trained into `folder`, in half precision, with `about` beside it."""
    weights = {name: p.detach().cpu().half().contiguous() for name, p in trained(model).items()}
    with files.staged(folder / WEIGHTS) as fresh:
        save_file(weights, fresh)
        about = {"base": BASE, **about, "sha256": digests.read(fresh)}
    files.write(folder / ABOUT, json.dumps(about, indent=2))
    return folder


@torch.no_grad()
def load(folder: Path) -> tuple[Any, Any]:
    """The model of which `save` wrote what was trained, in fp32, and its tokenizer.

    Raises FrugalError where the file cannot be read, is not what was saved, or is of another model.
    """
    try:
        sha256 = files.read_json(folder / ABOUT).get("sha256")
    except FileNotFoundError:
        sha256 = None
    except (OSError, ValueError) as error:
        raise FrugalError(f"{folder / ABOUT}: cannot be read ({error})") from error
    model, tokenizer = build()
    parameters = trained(model)
    try:
        found = digests.read(folder / WEIGHTS)
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise FrugalError(f"{folder / WEIGHTS}: cannot be read ({error})") from error
    if odd := sorted(set(weights) ^ set(parameters)):
        raise FrugalError(f"{folder / WEIGHTS}: is of another model; {odd[0]} does not fit")
    if sha256 not in (None, found):  # None: it was not kept
        raise FrugalError(f"{folder / WEIGHTS}: damaged, it is not what was saved")
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])
    model.config.name_or_path = str(folder.name)
    return model, tokenizer
