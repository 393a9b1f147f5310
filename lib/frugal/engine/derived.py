"""What is made of an artifact once and kept: a model whose quantised weights were spread out.

It lies in `home()/models/<name>/`, with a manifest of its files. One that is damaged is never
loaded: an error says how to mend it.
"""

from collections.abc import Callable
from pathlib import Path

from frugal.engine import artifacts, digests, files
from frugal.errors import FrugalError


def folder(name: str) -> Path:
    """The folder of the model made of artifact `name`; made, under a lock, if it is not there yet.

    Raises FrugalError for a damaged one, and for whatever `artifacts.get` refuses.
    """
    place = _place(name)
    files.sweep(place.parent)
    artifacts.once(f"{name}-made", lambda: _there(name), lambda: _make(name))
    if problem := _broken(name):
        raise FrugalError(f"{place}: damaged, {problem}; `frugal artifacts fetch {name}` mends it")
    return place


def state(name: str) -> artifacts.State:
    """Whether every file is there with its sha256.

    One without a manifest, as earlier versions made them, or of another source is taken for
    absent: it is made anew before it is loaded.
    """
    if not _there(name):
        return "absent"
    return "corrupt" if _broken(name, all_=True) else "ok"


def mend(name: str) -> None:
    """Make a damaged one anew."""
    artifacts.once(f"{name}-made", lambda: state(name) != "corrupt", lambda: _make(name))


def _place(name: str) -> Path:
    return artifacts.home() / "models" / name


def _there(name: str) -> bool:
    """Whether there is one of this source, sound or not."""
    place = _place(name)
    if not (place / artifacts.MANIFEST).is_file():
        return False
    try:
        return bool(artifacts.listed(place)[0] == _source(name))
    except (OSError, ValueError):
        return True


def _broken(name: str, *, all_: bool = False) -> str:
    """What is wrong with what is there, in a few words; "" where nothing is."""
    try:
        _, members = artifacts.listed(_place(name))
    except (OSError, ValueError) as error:
        return f"its manifest cannot be read ({error})"
    return artifacts.broken(_place(name), members, all_=all_)


def _source(name: str) -> list[str]:
    """What the result depends on: the artifact, and how it is made."""
    return [digests.pin(name), MADE[name].__name__]


def _make(name: str) -> None:
    with files.staged_folder(_place(name)) as staged:
        MADE[name](staged)
        artifacts.manifest(staged, _source(name))


def dequantise(folder: Path) -> None:
    """Spread out SmolLM2's quantised weights into fp32, in `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = artifacts.member("smollm2-135m", ".gguf")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, trust_remote_code=False
    )
    # A model that remembers its quantisation refuses to be saved, so the weights move to a fresh
    # one that never had any.
    config = type(model.config)(
        **{k: v for k, v in model.config.to_diff_dict().items() if k != "quantization_config"}
    )
    config.architectures = [type(model).__name__]
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


MADE: dict[str, Callable[[Path], None]] = {"smollm2-135m": dequantise}
