"""A server of somebody else: `transformers serve`, with random weights and with SmolLM2's."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import chat_server
import pytest
import torch
from test_labels import answered

from frugal import tasks
from frugal.budgets import labels
from frugal.budgets.endpoint import Endpoint
from frugal.budgets.replies import KEY
from frugal.engine import backbones, tiny

PRICE = chat_server.PRICE
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@contextlib.contextmanager
def serving(folder, log):
    """The address of a server of the model in `folder`; skipped where none can be started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = Path(sys.executable).with_name("transformers")
    if not command.exists():
        pytest.skip("no command `transformers` beside this Python")
    command = [command, "serve", folder, "--device", "cpu", "--dtype", "float32"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (
        log.open("wb") as out,
        subprocess.Popen(command, env=environment, stdout=out, stderr=out) as server,
    ):
        try:
            for _ in range(1200):
                if server.poll() is not None:
                    pytest.skip(f"`transformers serve` ends: {log.read_text()[-300:]}")
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def tiny_served(tmp_path_factory):
    """A tiny model that says "a" or "b", its folder, and the server's address."""
    place = tmp_path_factory.mktemp("served")
    model, tokenizer = tiny.MODELS["tiny-causal"]()
    tokenizer.chat_template = TEMPLATE
    others = set(range(len(tokenizer))) - set(tokenizer("ab")["input_ids"])
    model.generation_config.suppress_tokens = sorted(others)
    model.save_pretrained(place / "tiny")
    tokenizer.save_pretrained(place / "tiny")
    with serving(str(place / "tiny"), place / "log") as url:
        yield model.eval(), tokenizer, str(place / "tiny"), url


@pytest.mark.slow
@pytest.mark.parametrize("form", ["auto", "schema", "logprobs", "text"])
def test_a_tiny_model_behind_a_real_server_labels_in_every_form(
    tmp_path, tiny_served, form, monkeypatch
):
    monkeypatch.delenv(KEY, raising=False)
    model, tokenizer, folder, url = tiny_served
    examples = [e.model_copy(update={"choices": (" a", " b")}) for e in chat_server.words(12)]
    source = Endpoint(folder, base_url=url, form=form, answer_tokens=1, batch=2, **PRICE)
    planned = labels.quote(source, examples)
    bought = labels.buy(source, examples, tmp_path, cap_usd=planned.most_usd)
    read, best = [], []
    two = tokenizer("ab")["input_ids"]
    for example in examples:
        asked = tokenizer.apply_chat_template(
            source.messages(example), add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        with torch.no_grad():
            best.append(model(asked).logits[0, -1, two].argmax().item())
        read.append(asked.shape[1])
    assert bought.labels == best
    assert (bought.lost_usd, bought.malformed) == (0, 0)
    assert bought.tokens == sum(read) + 12  # the server's counts are the tokenizer's
    assert bought.spent_usd == pytest.approx((0.5 * sum(read) + 1.5 * 12) / 1000)


@pytest.fixture
def smollm2_served(tmp_path, monkeypatch):
    """SmolLM2 behind `transformers serve`: somebody else's server, and the address of it."""
    backbone = backbones.load("smollm2-135m", device="cpu")
    folder = backbone.model.config.name_or_path
    monkeypatch.delenv(KEY, raising=False)
    with serving(folder, tmp_path / "serve.log") as url:
        yield backbone, folder, url


@pytest.mark.real
def test_a_real_server_labels_reviews_and_its_token_counts_are_the_tokenizers(
    tmp_path, smollm2_served
):
    backbone, folder, url = smollm2_served
    task = tasks.load("movie-reviews")
    reviews, shots = task.test(8), tuple(task.draw(4, 0))
    source = Endpoint(folder, base_url=url, shots=shots, batch=2, **PRICE)
    planned = labels.quote(source, reviews)
    bought = labels.buy(source, reviews, tmp_path / "bought", cap_usd=planned.most_usd)
    assert bought.labels.count(None) <= 2
    assert bought.lost_usd == 0
    assert planned.expected_usd / 3 < bought.spent_usd <= planned.most_usd
    by_key = {labels.key(r): r for r in reviews}
    for record in answered(tmp_path / "bought"):
        messages = source.messages(by_key[record["key"]])
        read = backbone.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        written = record["tokens"] - len(read)
        assert 1 <= written <= source._answer_tokens(by_key[record["key"]])
        assert record["usd"] == pytest.approx((0.5 * len(read) + 1.5 * written) / 1000)
