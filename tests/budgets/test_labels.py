"""Buying labels: never twice, none lost, never beyond the cap, however often it is killed."""

import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import chat_server
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frugal import peft
from frugal.budgets import labels, sources
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import choices, icl, tasks

SHARED = [HealthCheck.function_scoped_fixture]  # the examples never change
PRICE = {"usd_per_1k_in": 0.5, "usd_per_1k_out": 1.5}


@pytest.fixture
def examples():
    return tasks.load("counting").draw(20, 0)


@pytest.fixture
def endpoint(monkeypatch):
    """Start a server with faults; the source that asks it, and its meter."""
    monkeypatch.setenv(sources.KEY, chat_server.KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    open_servers = []

    def start(faults=(), **options):
        context = chat_server.serving(faults)
        url, meter = context.__enter__()
        open_servers.append(context)
        return sources.Endpoint("tiny", base_url=url, **{**PRICE, **options}), meter

    yield start
    for context in open_servers:
        context.__exit__(None, None, None)


def lines(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def answered(folder):
    return [r for r in lines(folder) if r.get("state") == "answered"]


def billed_usd(meter):
    return (
        meter.tokens[0] * PRICE["usd_per_1k_in"] + meter.tokens[1] * PRICE["usd_per_1k_out"]
    ) / 1e3


def test_people_give_the_tasks_labels_and_a_second_purchase_is_free(tmp_path, examples):
    pool = sources.HumanPool(0.1)
    assert labels.quote(pool, examples) == labels.Quote(20, pytest.approx(2), pytest.approx(2))
    bought = labels.buy(pool, examples, tmp_path, cap_usd=100)
    assert bought.labels == [e.label for e in examples]
    assert bought.labelled(examples) == examples
    assert (bought.spent_usd, bought.answers) == (2.0, 20)
    before = (tmp_path / "answers.jsonl").read_bytes()
    again = labels.buy(pool, examples[5:], tmp_path, cap_usd=100)
    assert again.labels == bought.labels[5:]
    assert (tmp_path / "answers.jsonl").read_bytes() == before


@given(
    price=st.sampled_from([0.1, 0.129, 0.26, 0.371]), cap=st.floats(0, 9), step=st.integers(1, 9)
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_cap_is_met_to_the_last_label_and_never_passed(
    tmp_path_factory, examples, price, cap, step
):
    folder = tmp_path_factory.mktemp("labels")
    for stop in range(step, 20 + step, step):  # bought in parts, as a killed run would
        bought = labels.buy(sources.HumanPool(price), examples[:stop], folder, cap_usd=cap)
        assert bought.spent_usd <= cap
    assert bought.spent_usd == pytest.approx(price * bought.answers)
    assert bought.unasked == 0 or cap - bought.spent_usd < price
    assert bought.answers + bought.unasked == 20


def test_an_exact_cap_buys_exactly_what_it_pays_for(tmp_path, examples):
    bought = labels.buy(sources.HumanPool(0.1), examples, tmp_path, cap_usd=1.0)
    assert (bought.answers, bought.spent_usd, bought.unasked) == (10, 1.0, 10)


def test_a_text_that_comes_twice_is_paid_once(tmp_path, examples):
    other = examples[0].model_copy(update={"label": 1 - examples[0].label})
    bought = labels.buy(sources.HumanPool(1), [examples[0], other], tmp_path, cap_usd=9)
    assert (bought.answers, len(set(bought.labels))) == (1, 1)


def test_a_local_model_answers_by_rank_and_pays_by_the_token(tmp_path, tiny, examples):
    shots = tuple(tasks.load("counting").draw(22, 0)[20:])
    source = sources.LocalModel(tiny, 0.02, shots)
    bought = labels.buy(source, examples, tmp_path, cap_usd=100)
    prompted = icl.prompted(examples, shots)
    assert bought.labels == choices.score(tiny, prompted).predictions.tolist()
    tokens = sum(len(tiny.tokenizer(e.prompt)["input_ids"]) + 1 for e in prompted)
    assert bought.tokens == tokens
    assert bought.spent_usd == pytest.approx(tokens * 0.02 / 1000)
    assert bought.quote.most_usd == pytest.approx(bought.spent_usd)


def test_a_tuned_teacher_is_another_source(tmp_path, tiny, examples):
    plain = sources.LocalModel(tiny, 0.02)
    labels.buy(plain, examples[:2], tmp_path, cap_usd=1)
    tuned = peft.attach(tiny.model, "ia3")
    for vector in tuned.parameters():
        vector.data.mul_(1.5)
    teacher = sources.LocalModel(tiny, 0.02)
    with pytest.raises(FrugalError, match="another source or price"):
        labels.buy(teacher, examples, tmp_path, cap_usd=1)
    bought = labels.buy(teacher, examples, tmp_path / "teacher", cap_usd=1)
    assert bought.labels == choices.score(tiny, examples).predictions.tolist()
    tuned.detach()


def test_an_endpoint_answers_and_bills_its_usage(tmp_path, examples, endpoint):
    shots = tuple(tasks.load("counting").draw(22, 0)[20:])
    source, meter = endpoint(shots=shots)
    planned = labels.quote(source, examples)
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert bought.spent_usd == pytest.approx(billed_usd(meter))
    assert planned == bought.quote
    assert bought.spent_usd <= planned.most_usd
    assert set(meter.billed.values()) == {1}
    for example, choice in zip(examples, bought.labels, strict=True):
        assert example.choices[choice].strip() == chat_server.answer_to(example.prompt)
    body = meter.requests[0]
    assert [m["role"] for m in body["messages"]] == ["system"] + ["user", "assistant"] * 2 + [
        "user"
    ]
    assert body["messages"][1]["content"] == shots[0].prompt
    assert body["temperature"] == 0


def test_refusals_are_repeated_and_cost_nothing(tmp_path, examples, endpoint):
    source, meter = endpoint({0: "429", 1: "500", 2: "503", 9: "429"})
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert len(meter.requests) == 24
    assert bought.spent_usd == pytest.approx(billed_usd(meter))
    assert bought.lost_usd == 0


def test_a_server_that_keeps_refusing_ends_the_run_and_the_next_one_goes_on(
    tmp_path, examples, endpoint
):
    source, meter = endpoint(dict.fromkeys(range(6, 12), "429"), batch=1, refusals=3)
    with pytest.raises(FrugalError, match=r"HTTP 429.*keeps all answers"):
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert len(answered(tmp_path)) == 6
    with pytest.raises(FrugalError, match="HTTP 429"):
        labels.buy(source, examples, tmp_path, cap_usd=50)
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert set(meter.billed.values()) == {1}
    assert (bought.lost_usd, bought.spent_usd) == (0, pytest.approx(billed_usd(meter)))


def test_malformed_answers_are_counted_paid_and_asked_again_within_limits(
    tmp_path, examples, endpoint
):
    first_two_rounds = {0: "malformed", 3: "empty", **dict.fromkeys(range(20, 22), "malformed")}
    source, meter = endpoint(first_two_rounds, batch=1)
    bought = labels.buy(source, examples, tmp_path / "two", cap_usd=50, attempts=2)
    assert (bought.malformed, bought.given_up, bought.labels.count(None)) == (4, 2, 2)
    assert bought.spent_usd == pytest.approx(billed_usd(meter))
    assert [b["temperature"] for b in meter.requests] == [0] * 20 + [1] * 2
    again = labels.buy(source, examples, tmp_path / "two", cap_usd=50, attempts=2)
    assert (again, len(meter.requests)) == (bought, 22)  # given up is given up
    more = labels.buy(source, examples, tmp_path / "two", cap_usd=50, attempts=3)
    assert (more.given_up, len(meter.requests)) == (0, 24)


@pytest.mark.parametrize("fault", ["slow", "hang up", "html"])
def test_an_answer_that_never_comes_counts_as_paid_and_is_asked_again(
    tmp_path, examples, endpoint, fault
):
    source, meter = endpoint({1: fault}, batch=1, seconds=0.5)
    bought = labels.buy(source, examples[:4], tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert bought.lost_usd == pytest.approx(source.most_usd(examples[1]))
    assert bought.spent_usd < billed_usd(meter) <= bought.spent_usd + bought.lost_usd
    again = labels.buy(source, examples[:4], tmp_path, cap_usd=50)
    assert again == bought


def test_an_endpoints_cap_holds_at_its_dearest(tmp_path, examples, endpoint):
    source, meter = endpoint({2: "slow"}, seconds=0.5)
    cap = labels.quote(source, examples).most_usd / 8
    bought = labels.buy(source, examples, tmp_path, cap_usd=cap)
    assert 0 < bought.answers < 20
    assert bought.unasked + bought.answers >= 19
    assert billed_usd(meter) <= bought.spent_usd + bought.lost_usd <= cap


class Killed(BaseException):
    pass


def dying(monkeypatch, after, torn):
    """Let the process die at its `after`-th write: whole on disk, or torn in its last line."""
    real, written = os.fsync, 0

    def fsync(fd):
        nonlocal written
        written += 1
        real(fd)
        if written == after:
            if torn:
                os.truncate(fd, os.fstat(fd).st_size - 7)
            raise Killed

    monkeypatch.setattr(os, "fsync", fsync)


def buy_until_done(monkeypatch, kills, source, examples, folder, cap):
    """Buy, dying as `kills` say, then once more to the end; what was bought, and the deaths."""
    deaths = 0
    for after, torn in kills:
        with monkeypatch.context() as patch:
            dying(patch, after, torn)
            try:
                labels.buy(source, examples, folder, cap_usd=cap)
            except Killed:
                deaths += 1
    return labels.buy(source, examples, folder, cap_usd=cap), deaths


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=5))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_killed_at_any_write_people_are_paid_once_for_every_label(
    tmp_path_factory, monkeypatch, examples, kills
):
    folder, pool = tmp_path_factory.mktemp("labels"), sources.HumanPool(0.1, batch=4)
    bought, _ = buy_until_done(monkeypatch, kills, pool, examples, folder, 2.0)
    assert Counter(r["key"] for r in answered(folder)) == {labels.key(e): 1 for e in examples}
    assert bought.labels == [e.label for e in examples]
    assert (bought.spent_usd, bought.lost_usd) == (2.0, 0)


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_write_an_endpoint_is_never_paid_beyond_the_cap(
    tmp_path, examples, endpoint, monkeypatch, seed
):
    choose = random.Random(seed)
    source, meter = endpoint({5: "malformed", 8: "429"}, batch=3)
    cap = labels.quote(source, examples).most_usd * choose.choice([0.4, 2.0])
    kills = [(choose.randrange(1, 20), choose.random() < 0.5) for _ in range(4)]
    bought, deaths = buy_until_done(monkeypatch, kills, source, examples, tmp_path, cap)
    assert deaths >= 1
    check_endpoint(bought, meter, examples, tmp_path, cap)


def check_endpoint(bought, meter, examples, folder, cap):
    good = Counter(r["key"] for r in answered(folder) if r["choice"] is not None)
    assert set(good.values()) == {1}  # no example is labelled twice
    assert len(good) + bought.unasked + bought.given_up == 20  # and none is lost
    assert sum(y is not None for y in bought.labels) == len(good)
    assert bought.spent_usd == pytest.approx(sum(r["usd"] for r in answered(folder)))
    assert bought.spent_usd <= billed_usd(meter) + 1e-9
    assert billed_usd(meter) <= bought.spent_usd + bought.lost_usd + 1e-9
    assert bought.spent_usd + bought.lost_usd <= cap


def test_a_process_that_is_really_killed_goes_on(tmp_path, examples, endpoint):
    source, meter = endpoint(dict.fromkeys(range(6, 9), "slow"), batch=3)
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from frugal.budgets import labels, sources
        from frugal.fewshot import tasks
        source = sources.Endpoint(
            "tiny", usd_per_1k_in=0.5, usd_per_1k_out=1.5, base_url=sys.argv[2], batch=3)
        print("ready", flush=True)
        labels.buy(source, tasks.load("counting").draw(20, 0), Path(sys.argv[1]), cap_usd=50)
    """)
    command = [sys.executable, "-c", code, str(tmp_path), source.base_url]
    with subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE) as process:
        while len(meter.requests) < 9:  # three of them are slow to answer, so it is waiting now
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    check_endpoint(bought, meter, examples, tmp_path, 50)
    assert bought.lost_usd > 0
    assert bought.unasked == bought.given_up == 0


def test_the_key_comes_from_the_environment_and_goes_nowhere(
    tmp_path, examples, endpoint, monkeypatch, caplog, capfd
):
    source, meter = endpoint()
    secret = "sk-very-secret-9876"
    monkeypatch.setenv(sources.KEY, secret)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(FrugalError, match="HTTP 401") as error:
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert meter.seen_keys == {f"Bearer {secret}"}
    captured = capfd.readouterr()
    for text in (str(error.value), caplog.text, captured.out, captured.err, repr(source)):
        assert secret not in text
    assert all(secret not in p.read_text() for p in tmp_path.iterdir())
    monkeypatch.delenv(sources.KEY)
    with pytest.raises(FrugalError, match=r"OPENAI_API_KEY is not set"):
        labels.buy(sources.Endpoint("m", **PRICE), examples, tmp_path / "other", cap_usd=50)


def test_a_server_nobody_listens_at_costs_nothing(tmp_path, examples, endpoint):
    source = sources.Endpoint("tiny", base_url="http://127.0.0.1:9/v1", **PRICE)
    with pytest.raises(FrugalError, match="no connection"):
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert not answered(tmp_path)
    assert labels.buy(source, [], tmp_path, cap_usd=50).lost_usd == 0


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (" positive", 1),
        ("Positive.", 1),
        ("'negative'\nbecause it is long", 0),
        ("**Negative**", 0),
        ("not positive", None),
        ("positive or negative", None),
        ("", None),
        ("neutral", None),
    ],
)
def test_only_a_choice_is_an_answer(text, choice):
    assert sources.parse(text, (" negative", " positive")) == choice


def test_choices_that_look_alike_are_not_guessed():
    assert sources.parse("us", (" us", " US", " uk")) is None


def test_bad_folders_and_caps_have_one_clear_error(tmp_path, examples):
    pool = sources.HumanPool(0.1)
    with pytest.raises(FrugalError, match="cap_usd must not be negative"):
        labels.buy(pool, examples, tmp_path, cap_usd=-1)
    with pytest.raises(FrugalError, match="usd must not be negative"):
        sources.HumanPool(-0.1)
    labels.buy(pool, examples, tmp_path, cap_usd=9)
    with pytest.raises(FrugalError, match=r'another source or price \(\{"people"'):
        labels.buy(sources.HumanPool(0.2), examples, tmp_path, cap_usd=9)
    file = tmp_path / "answers.jsonl"
    with file.open("a") as out:
        out.write("{broken}\n")
    with pytest.raises(FrugalError, match=r"answers\.jsonl, line 22: not a line of answers"):
        labels.buy(pool, examples, tmp_path, cap_usd=9)


def test_two_buyers_do_not_share_a_folder(tmp_path, examples):
    class Nosy(sources.HumanPool):
        def ask(self, examples, attempt):
            with pytest.raises(FrugalError, match="being bought here already"):
                labels.buy(sources.HumanPool(0.1), examples, tmp_path, cap_usd=9)
            return super().ask(examples, attempt)

    assert None not in labels.buy(Nosy(0.1), examples, tmp_path, cap_usd=9).labels


def test_a_server_that_bills_more_than_it_may_stops_the_run(tmp_path, examples):
    class Greedy(sources.HumanPool):
        def most_usd(self, example):
            return self.usd / 2

    with pytest.raises(FrugalError, match=r"billed \$0.1 where at most \$0.05 was due"):
        labels.buy(Greedy(0.1, batch=1), examples, tmp_path, cap_usd=9)
    assert len(answered(tmp_path)) == 1


@pytest.fixture
def smollm2_served(tmp_path, monkeypatch):
    """SmolLM2 behind `transformers serve`: somebody else's server, and the address of it."""
    backbone = backbones.load("smollm2-135m", device="cpu")
    folder = backbone.model.config.name_or_path
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (
        (tmp_path / "serve.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            for _ in range(600):
                assert server.poll() is None, (tmp_path / "serve.log").read_text()
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            monkeypatch.delenv(sources.KEY, raising=False)
            yield backbone, folder, f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


@pytest.mark.real
def test_a_real_server_labels_reviews_and_its_token_counts_are_the_tokenizers(
    tmp_path, smollm2_served
):
    backbone, folder, url = smollm2_served
    task = tasks.load("movie-reviews")
    reviews, shots = task.test(8), tuple(task.draw(4, 0))
    source = sources.Endpoint(folder, base_url=url, shots=shots, batch=2, **PRICE)
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
