"""Backbones: a model, its tokenizer and what family it is of.

`load` takes a name this project pins (real weights, from the package index), a `tiny-` name
(random weights and a byte-level tokenizer, built in code, no files), a folder, or a hub id.
"""

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from frugal import data
from frugal.engine import artifacts, derived, nano
from frugal.errors import FrugalError, unknown

Family = Literal["causal", "encoder-decoder", "encoder"]
_BAR = re.compile(r"\s*$|.*\d+%\|").match  # an empty line, or a progress bar's


@dataclass(frozen=True)
class Backbone:
    """A transformers model in eval mode, its tokenizer, and its family."""

    name: str
    model: Any
    tokenizer: Any
    family: Family
    limit: int = 0  # tokens of an input, where fewer are wanted than the positions allow

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def max_tokens(self) -> int | None:
        """Longest input in tokens; None where nothing bounds it (T5)."""
        return min((n for n in (self.limit, self._positions) if n and n > 0), default=None)

    @property
    def _positions(self) -> int | None:
        """Longest input that the positions allow."""
        config = getattr(self.model.config, "encoder", None) or self.model.config
        if hasattr(config, "relative_attention_num_buckets"):
            return None
        return getattr(config, "max_position_embeddings", None) or getattr(
            config, "n_positions", None
        )

    @property
    def decoder_ends(self) -> tuple[int, int]:
        """Ids of the token a decoder starts from and of the one that ends its text."""
        tokenizer, config = self.tokenizer, self.model.config
        named = (
            getattr(config, "decoder_start_token_id", None),
            getattr(self.model.generation_config, "decoder_start_token_id", None),
            getattr(getattr(config, "decoder", None), "bos_token_id", None),  # as T5Gemma's
            getattr(config, "pad_token_id", None),  # as T5's
        )
        start = next((token for token in named if token is not None), None)
        end = (
            tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        )
        if start is None or end is None:
            raise FrugalError(
                f"{self.name}: neither a start nor an end of the decoder's text is set"
            )
        return start, end

    def limited(self, tokens: int) -> "Backbone":
        """The same model, which takes no more than `tokens` of an input (0: as many as it can)."""
        return dataclasses.replace(self, limit=tokens)


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str = torch.float32,
) -> Backbone:
    """The backbone called `name`, on `device` (default: CUDA where there is one), ready to score.

    dtype: of the weights, a torch dtype or a name of DTYPES

    Raises FrugalError where the name is neither pinned, nor built in, nor a folder, and the hub
    cannot be reached.
    """
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        dtype = DTYPES[dtype]
    if name in TINY:
        model, tokenizer = TINY[name]()
    else:
        folder = Path(PINNED[name]() if name in PINNED else name)
        if (folder / nano.WEIGHTS).is_file():
            with _quiet():
                model, tokenizer = nano.load(folder)
        else:
            model, tokenizer = _from_pretrained(str(folder), name, dtype)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device=device, dtype=dtype).eval()
    return Backbone(name, model, tokenizer, _family(model.config))


def at_hand(name: str) -> bool:
    """Whether `load` needs no hub for this name."""
    return name in PINNED or name in TINY or Path(name).is_dir()


def _family(config: Any) -> Family:
    if config.is_encoder_decoder:
        return "encoder-decoder"
    if any("CausalLM" in a or "LMHead" in a for a in config.architectures or ()):
        return "causal"
    return "encoder"


def _from_pretrained(folder: str | Path, name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
    )

    auto = {
        "causal": AutoModelForCausalLM,
        "encoder-decoder": AutoModelForSeq2SeqLM,
        "encoder": AutoModel,
    }
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = auto[_family(config)].from_pretrained(folder, dtype=dtype)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        offline = ", ".join([*PINNED, *TINY])
        raise FrugalError(
            f"cannot load backbone {name!r}: no such folder, and the Hugging Face hub did not "
            f"give it ({reason}). Without the hub these work: {offline}, or a model folder"
        ) from error
    return model, tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers draws progress bars even into a log; here only where someone looks."""
    from transformers.utils import logging

    if sys.stderr.isatty():
        yield
        return
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    heard = io.StringIO()  # reading a GGUF draws a bar that no switch of transformers stops
    try:
        with contextlib.redirect_stderr(heard):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
        sys.stderr.writelines(line for line in heard.getvalue().splitlines(True) if not _BAR(line))


def _smollm2() -> Path:
    """The folder of SmolLM2-135M in fp32."""
    with _quiet():
        return derived.folder("smollm2-135m")


def _minilm() -> Path:
    return artifacts.member("minilm-l6", "model/config.json").parent


def byte_tokenizer() -> Any:
    """A tokenizer whose tokens are the 256 bytes, then padding (256) and end of text (257)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(alphabet)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "eos_token": "<eos>"})
    return tokenizer


def _tiny_causal() -> tuple[Any, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        architectures=["LlamaForCausalLM"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config), tokenizer


def _tiny_t5() -> tuple[Any, Any]:
    """Of version 1.1's kind: a gated feed-forward, the output not scaled."""
    from tokenizers.processors import TemplateProcessing
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = byte_tokenizer()
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", end)]
    )
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=end,
        decoder_start_token_id=tokenizer.pad_token_id,
        architectures=["T5ForConditionalGeneration"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return T5ForConditionalGeneration(config), tokenizer


def _tiny_encoder() -> tuple[Any, Any]:
    from transformers import BertConfig, BertModel

    tokenizer = byte_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=6,  # as few as form four groups
        num_attention_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["BertModel"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertModel(config), tokenizer


# Weights that the package index carries, as folders; see data/artifacts.toml.
PINNED: dict[str, Callable[[], Path]] = {
    "smollm2-135m": _smollm2,
    "minilm-l6": _minilm,
    "nano-t0": lambda: data.ROOT / "checkpoints" / "nano-t0",
}
# Random weights, for tests and the preset `smoke`.
TINY: dict[str, Callable[[], tuple[Any, Any]]] = {
    "tiny-causal": _tiny_causal,
    "tiny-t5": _tiny_t5,
    "tiny-encoder": _tiny_encoder,
}
