"""Buying labels: never twice, none lost, never beyond the cap, however often it is killed."""

import contextlib
import errno
import json
import logging
import math
import os
import random
import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import chat_server
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from children import Child
from frugal import peft, tasks
from frugal.budgets import annotators, labels
from frugal.budgets.endpoint import Endpoint
from frugal.budgets.replies import KEY
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, icl, probe
from frugal.tasks import Example

SHARED = [HealthCheck.function_scoped_fixture]  # the examples never change
PRICE = chat_server.PRICE


def lines(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def answered(folder):
    return [r for r in lines(folder) if r.get("state") == "answered"]


def billed_usd(meter):
    return meter.usd(**PRICE)


def test_people_give_the_tasks_labels_and_a_second_purchase_is_free(tmp_path, examples):
    pool = annotators.HumanPool(0.1)
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
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_cap_is_met_to_the_last_label_and_never_passed(
    tmp_path_factory, examples, price, cap, step
):
    folder = tmp_path_factory.mktemp("labels")
    for stop in range(step, 20 + step, step):  # bought in parts, as a killed run would
        bought = labels.buy(annotators.HumanPool(price), examples[:stop], folder, cap_usd=cap)
        assert bought.spent_usd <= cap
    assert bought.spent_usd == pytest.approx(price * bought.answers)
    assert bought.unasked == 0 or cap - bought.spent_usd < price
    assert bought.answers + bought.unasked == 20


def test_an_exact_cap_buys_exactly_what_it_pays_for(tmp_path, examples):
    bought = labels.buy(annotators.HumanPool(0.1), examples, tmp_path, cap_usd=1.0)
    assert (bought.answers, bought.spent_usd, bought.unasked) == (10, 1.0, 10)


def test_a_text_that_comes_twice_is_paid_once(tmp_path, examples):
    other = examples[0].model_copy(update={"label": 1 - examples[0].label})
    bought = labels.buy(annotators.HumanPool(1), [examples[0], other], tmp_path, cap_usd=9)
    assert (bought.answers, len(set(bought.labels))) == (1, 1)


def test_a_local_model_answers_by_rank_and_pays_by_the_token(tmp_path, tiny, examples, monkeypatch):
    shots = tuple(tasks.load("counting").draw(22, 0)[20:])
    source = annotators.LocalModel(tiny, 0.02, shots)
    encode, read = encoding.encode, []
    monkeypatch.setattr(encoding, "encode", lambda b, some: read.extend(some) or encode(b, some))
    bought = labels.buy(source, examples, tmp_path, cap_usd=100)
    prompted = icl.prompted(examples, shots)
    assert bought.labels == choices.score(tiny, prompted).predictions.tolist()
    tokens = sum(len(tiny.tokenizer(e.prompt)["input_ids"]) + 1 for e in prompted)
    assert bought.tokens == tokens
    assert bought.spent_usd == pytest.approx(tokens * 0.02 / 1000)
    assert bought.quote.most_usd == pytest.approx(bought.spent_usd)
    assert [e.prompt for e in read] == [e.prompt for e in prompted]  # each text in tokens once
    reader = backbones.load("tiny-t5")
    whole = reader.tokenizer(examples[0].prompt.rstrip())["input_ids"]
    assert annotators.LocalModel(reader, 1).tokens(examples[0]) == len(whole) + 1


def test_a_tuned_teacher_is_another_source(tmp_path, tiny, examples):
    plain = annotators.LocalModel(tiny, 0.02)
    labels.buy(plain, examples[:2], tmp_path, cap_usd=1)
    tuned = peft.attach(tiny.model, "ia3")
    for vector in tuned.parameters():
        vector.data.mul_(1.5)
    teacher = annotators.LocalModel(tiny, 0.02)
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
    source, meter = endpoint({0: "429", 1: "429", 2: "429", 9: "429"})
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert len(meter.requests) == 24
    assert bought.spent_usd == pytest.approx(billed_usd(meter))
    assert bought.lost_usd == 0


def test_a_server_that_keeps_refusing_ends_the_run_and_the_next_one_goes_on(
    tmp_path, examples, endpoint, monkeypatch
):
    monkeypatch.setattr("frugal.budgets.endpoint.REFUSALS", 3)
    source, meter = endpoint(dict.fromkeys(range(6, 12), "429"), batch=1)
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
    tmp_path, examples, endpoint, monkeypatch
):
    monkeypatch.setattr(labels, "ATTEMPTS", 2)
    first_two_rounds = {0: "malformed", 3: "empty", **dict.fromkeys(range(20, 22), "malformed")}
    source, meter = endpoint(first_two_rounds, batch=1)
    bought = labels.buy(source, examples, tmp_path / "two", cap_usd=50)
    assert (bought.malformed, bought.given_up, bought.labels.count(None)) == (4, 2, 2)
    assert bought.spent_usd == pytest.approx(billed_usd(meter))
    assert [b["temperature"] for b in meter.requests] == [0] * 20 + [1] * 2
    again = labels.buy(source, examples, tmp_path / "two", cap_usd=50)
    assert (again, len(meter.requests)) == (bought, 22)  # given up is given up
    monkeypatch.setattr(labels, "ATTEMPTS", 3)
    more = labels.buy(source, examples, tmp_path / "two", cap_usd=50)
    assert (more.given_up, len(meter.requests)) == (0, 24)


@pytest.mark.parametrize(
    "fault",
    [
        *("slow", "hang up", "html", "drip", "drip headers", "cut", "huge", "deep", "bytes"),
        *("500", "502", "503", "504", "408"),
    ],
)
def test_an_answer_that_never_comes_counts_as_paid_and_is_asked_again(
    tmp_path, examples, endpoint, fault
):
    source, meter = endpoint({1: fault}, batch=1, seconds=0.5)
    bought = labels.buy(source, examples[:4], tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert bought.lost_usd == pytest.approx(source.most_usd(examples[1]))
    assert bought.spent_usd < billed_usd(meter) <= bought.spent_usd + bought.lost_usd
    assert sum(meter.billed.values()) == 5
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
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_killed_at_any_write_people_are_paid_once_for_every_label(
    tmp_path_factory, monkeypatch, examples, kills
):
    folder, pool = tmp_path_factory.mktemp("labels"), annotators.HumanPool(0.1, batch=4)
    bought, _ = buy_until_done(monkeypatch, kills, pool, examples, folder, 2.0)
    assert Counter(r["key"] for r in answered(folder)) == {labels.key(e): 1 for e in examples}
    assert bought.labels == [e.label for e in examples]
    assert (bought.spent_usd, bought.lost_usd) == (2.0, 0)


@pytest.mark.parametrize("seed", range(5))
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


@pytest.mark.parametrize("stop", ["SIGKILL", "SIGINT"])
def test_a_process_that_is_really_stopped_goes_on(tmp_path, examples, endpoint, stop):
    source, meter = endpoint(dict.fromkeys(range(6, 9), "drip headers"), batch=3)
    process = Child(lambda: labels.buy(source, examples, tmp_path, cap_usd=50))
    while len(meter.requests) < 9:  # three of them drip for 20 s, so it is waiting now
        assert process.runs()
        time.sleep(0.01)
    time.sleep(0.1)
    stopped = time.monotonic()
    process.signal(signal.Signals[stop])
    assert process.wait() == (1 if stop == "SIGINT" else -signal.SIGKILL)
    assert time.monotonic() - stopped < 8  # it does not wait for what drips
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    check_endpoint(bought, meter, examples, tmp_path, 50)
    assert bought.lost_usd == pytest.approx(sum(source.most_usd(e) for e in examples[6:9]))
    assert bought.unasked == bought.given_up == 0
    assert set(meter.billed.values()) == {1, 2}
    assert {p for p, n in meter.billed.items() if n == 2} == {e.prompt for e in examples[6:9]}


def test_the_key_comes_from_the_environment_and_goes_nowhere(
    tmp_path, examples, endpoint, monkeypatch, caplog, capfd
):
    source, meter = endpoint()
    secret = "sk-very-secret-9876"
    monkeypatch.setenv(KEY, secret)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(FrugalError, match="HTTP 401") as error:
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert meter.seen_keys == {f"Bearer {secret}"}
    captured = capfd.readouterr()
    for text in (str(error.value), caplog.text, captured.out, captured.err, repr(source)):
        assert secret not in text
    assert all(secret not in p.read_text() for p in tmp_path.iterdir())
    monkeypatch.delenv(KEY)
    with pytest.raises(FrugalError, match=r"OPENAI_API_KEY is not set"):
        labels.buy(Endpoint("m", **PRICE), examples, tmp_path / "other", cap_usd=50)


def test_a_server_nobody_listens_at_costs_nothing(tmp_path, examples, endpoint):
    source = Endpoint("tiny", base_url="http://127.0.0.1:9/v1", **PRICE)
    with pytest.raises(FrugalError, match="no connection"):
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert not answered(tmp_path)
    assert labels.buy(source, [], tmp_path, cap_usd=50).lost_usd == 0


def test_bad_folders_and_caps_have_one_clear_error(tmp_path, examples):
    pool = annotators.HumanPool(0.1)
    with pytest.raises(FrugalError, match="cap_usd must not be negative"):
        labels.buy(pool, examples, tmp_path, cap_usd=-1)
    for odd in (-1, math.nan, math.inf, -math.inf, "9", None, 10**400):
        with pytest.raises(FrugalError, match="cap_usd must"):
            labels.buy(pool, examples, tmp_path, cap_usd=odd)
        with pytest.raises(FrugalError, match="usd must"):
            annotators.HumanPool(odd)
        for prices in ((odd, 1), (1, odd)):
            with pytest.raises(FrugalError, match="must"):
                Endpoint("m", *prices)
    labels.buy(pool, examples, tmp_path, cap_usd=9)
    with pytest.raises(FrugalError, match=r'another source or price \(\{"people"'):
        labels.buy(annotators.HumanPool(0.2), examples, tmp_path, cap_usd=9)


def test_answers_of_nobody_are_refused(tmp_path, examples):
    """A file that lost its first line would pass for any source's, at any price."""
    pool, file = annotators.HumanPool(0.1), tmp_path / "answers.jsonl"
    labels.buy(pool, examples, tmp_path, cap_usd=9)
    first, _, rest = file.read_text(encoding="utf-8").partition("\n")
    assert "source" in first
    file.write_text(rest, encoding="utf-8")
    with pytest.raises(FrugalError, match=r"answers\.jsonl: does not say whose answers it holds"):
        labels.buy(pool, examples, tmp_path, cap_usd=9)
    assert file.read_text(encoding="utf-8") == rest


@pytest.mark.parametrize(
    "line",
    [
        *("{broken}", "", "null", "[]", "3", "\xff", "[" * 9999, '{"key": "k"}', '{"asked": "k"}'),
        *('{"batch": "b"}', '{"batch": []}', '{"asked": "k", "usd": 5, "id": [], "batch": "b"}'),
        *('{"withdrawn": "nothing"}', '{"asked": "k", "usd": -5}', '{"asked": [], "usd": 5}'),
        *(
            json.dumps({"key": "KEY", "choice": 0, "usd": 0.1, **change})
            for change in (
                *({"usd": -19.99}, {"usd": math.nan}, {"usd": None}, {"usd": "1"}, {"tokens": -1}),
                *({"choice": 7}, {"choice": -1}, {"choice": True}, {"choice": 0.5}),
                *({"cached": math.inf}, {"state": "free"}, {"more": 1}),
            )
        ),
    ],
)
def test_a_damaged_line_is_refused_by_its_number(tmp_path, examples, line):
    pool, file = annotators.HumanPool(0.1), tmp_path / "answers.jsonl"
    labels.buy(pool, examples, tmp_path, cap_usd=9)
    before = file.read_bytes()
    wrong = line.replace("KEY", labels.key(examples[0])).encode("latin-1")
    file.write_bytes(before + wrong + b"\n")
    with pytest.raises(FrugalError, match=r"answers\.jsonl, line 22: not a line of answers"):
        labels.buy(pool, examples, tmp_path, cap_usd=9)
    assert file.read_bytes() == before + wrong + b"\n"


def test_a_choice_that_json_wrote_as_a_float_is_that_whole_number(tmp_path, examples):
    pool, file = annotators.HumanPool(0.1), tmp_path / "answers.jsonl"
    found = labels.buy(pool, examples, tmp_path, cap_usd=9).labels
    text = re.sub(r'"choice": (\d+)', r'"choice": \1.0', file.read_text())
    assert '"choice": 0.0' in text
    file.write_text(text)
    again = labels.buy(pool, examples, tmp_path, cap_usd=9).labels
    assert again == found
    assert all(type(label) is int for label in again)


def test_a_text_with_half_a_character_is_refused_before_anything_is_bought(tmp_path):
    half = Example.model_construct(prompt="so \ud83d", choices=(" a", " b"), label=0)
    with pytest.raises(FrugalError, match="half a character"):
        labels.buy(annotators.HumanPool(0.1), [half], tmp_path / "new", cap_usd=9)
    assert not (tmp_path / "new").exists()


def test_a_local_model_with_nan_sells_no_label(tmp_path, tiny, examples, monkeypatch):
    with torch.no_grad():
        next(tiny.model.parameters())[ord("a")] = math.nan
    source = annotators.LocalModel(tiny, 0.02)
    with pytest.raises(FrugalError):
        labels.buy(source, examples, tmp_path / "checked", cap_usd=9)
    monkeypatch.setattr(probe, "packs", lambda *_: True)  # which may see it first
    with pytest.raises(FrugalError):
        labels.buy(source, examples, tmp_path, cap_usd=9)
    assert not answered(tmp_path)
    with pytest.raises(FrugalError, match="must not be negative"):
        annotators.LocalModel(tiny, -0.02)


def test_a_local_models_label_does_not_depend_on_the_order_of_the_choices(tmp_path, tiny):
    """Not even in a tie, which a model with the same logits everywhere makes of every choice."""
    drawn = tasks.load("counting").draw(6, 0)
    turned = [
        e.model_copy(update={"choices": e.choices[::-1], "label": 1 - e.label}) for e in drawn
    ]
    for name in ("told apart", "tied"):
        said = []
        for i, some in enumerate((drawn, turned)):
            source, folder = annotators.LocalModel(tiny, 0.02), tmp_path / f"{name}{i}"
            bought = labels.buy(source, some, folder, cap_usd=9).labels
            said.append([e.choices[y] for e, y in zip(some, bought, strict=True)])
        assert said[0] == said[1]
        with torch.no_grad():
            tiny.model.get_output_embeddings().weight.zero_()


class Another(annotators.HumanPool):
    """While it answers, something happens to the file."""

    def ask(self, examples, attempt):
        happen.pop()()
        yield from super().ask(examples, attempt)


happen = []


@pytest.mark.parametrize("how", ["cut", "replaced", "removed"])
def test_a_file_that_is_tampered_with_while_labels_are_bought_is_noticed(tmp_path, examples, how):
    file = tmp_path / "answers.jsonl"
    happen.append(
        {
            "cut": lambda: os.truncate(file, 10),
            "replaced": lambda: (file.rename(tmp_path / "x"), file.write_bytes(b"")),
            "removed": file.unlink,
        }[how]
    )
    with pytest.raises(FrugalError, match=r"answers\.jsonl"):
        labels.buy(Another(0.1), examples, tmp_path, cap_usd=9)


class Full:
    """A disk that takes `left` more bytes from os.write, and more once the room is given back."""

    def __init__(self, left, room):
        self.left, self.room, self.real = left, room, os.write

    def write(self, fd, data):
        if not self.room.exists():
            return self.real(fd, data)
        some = data[: self.left]
        self.left -= len(some)
        if not some:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real(fd, some)


@pytest.mark.parametrize("left", [0, 100, 330, 700])
def test_a_full_disk_loses_no_answer_that_was_paid_for(
    tmp_path, examples, endpoint, monkeypatch, left
):
    source, meter = endpoint(batch=2)
    labels.buy(source, examples[:2], tmp_path, cap_usd=50)  # the file is there
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", Full(left, tmp_path / "answers.room").write)
        with contextlib.suppress(FrugalError):
            labels.buy(source, examples[:8], tmp_path, cap_usd=50)
    kept = {r["key"] for r in answered(tmp_path)}
    assert len(kept) == sum(meter.billed.values())
    bought = labels.buy(source, examples[:8], tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert set(meter.billed.values()) == {1}
    assert bought.spent_usd == pytest.approx(billed_usd(meter))
    # Of two reservations that are written at once the first can be in when the disk is full.
    assert bought.lost_usd <= (source.most_usd(examples[2]) if left == 100 else 0)


def test_what_goes_on_no_disk_goes_to_the_terminal(
    tmp_path, examples, endpoint, monkeypatch, capsys
):
    source, meter = endpoint(batch=1)
    labels.buy(source, examples[:1], tmp_path, cap_usd=50)
    real, writes = os.write, []

    def write(fd, data):
        writes.append(data)
        if len(writes) > 1:  # the reservation goes in, and nothing after it
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(FrugalError, match="No space left"):
            labels.buy(source, examples[:4], tmp_path, cap_usd=50)
    assert len(meter.requests) == 2  # nothing was asked after that
    line = capsys.readouterr().err.strip()
    assert line.startswith("frugal: paid for, but not in ")
    record = json.loads(line.partition("jsonl: ")[2])
    assert record["key"] == labels.key(examples[1])
    with (tmp_path / "answers.jsonl").open("a") as out:  # as a person may
        out.write(json.dumps(record) + "\n")
    bought = labels.buy(source, examples[:4], tmp_path, cap_usd=50)
    assert (None in bought.labels, bought.lost_usd) == (False, 0)
    assert set(meter.billed.values()) == {1}


def test_without_a_working_lock_the_cap_holds_and_nothing_is_bought_twice(
    tmp_path, examples, endpoint, monkeypatch
):
    monkeypatch.setattr("fcntl.flock", lambda fd, operation: None)
    for cap_share in (0.5, 3):
        folder = tmp_path / str(cap_share)
        source, meter = endpoint(batch=3)
        other, other_meter = endpoint(batch=3)
        # Both are one server to the ledger.
        object.__setattr__(other, "identity", source.identity)
        cap = labels.quote(source, examples).most_usd * cap_share
        with ThreadPoolExecutor(3) as pool:
            jobs = [
                pool.submit(labels.buy, s, examples, folder, cap_usd=cap) for s in (source, other)
            ]
            found = [job.result() for job in jobs]
        billed = meter.billed + other_meter.billed
        assert billed_usd(meter) + billed_usd(other_meter) <= cap
        if cap_share > 1:
            assert len(billed) == 20
        # Twice only what one had in flight when the other came.
        assert sum(billed.values()) - len(billed) <= 3
        assert all(b.spent_usd + b.lost_usd <= cap for b in found)


def test_folders_that_cannot_be_used_are_refused(tmp_path, examples, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(FrugalError, match="no folder for answers"):
        labels.buy(annotators.HumanPool(0.1), examples, tmp_path / "file", cap_usd=9)
    (tmp_path / "odd" / "answers.jsonl").mkdir(parents=True)
    with pytest.raises(FrugalError, match="cannot be written"):
        labels.buy(annotators.HumanPool(0.1), examples, tmp_path / "odd", cap_usd=9)


def test_two_buyers_do_not_share_a_folder(tmp_path, examples):
    class Nosy(annotators.HumanPool):
        def ask(self, examples, attempt):
            with pytest.raises(FrugalError, match="being bought here already"):
                labels.buy(annotators.HumanPool(0.1), examples, tmp_path, cap_usd=9)
            return super().ask(examples, attempt)

    assert None not in labels.buy(Nosy(0.1), examples, tmp_path, cap_usd=9).labels


def test_a_server_that_bills_more_than_it_may_stops_the_run(tmp_path, examples):
    class Greedy(annotators.HumanPool):
        def most_usd(self, example):
            return self.usd / 2

    with pytest.raises(FrugalError, match=r"billed \$0.1 where at most \$0.05 was due"):
        labels.buy(Greedy(0.1, batch=1), examples, tmp_path, cap_usd=9)
    with pytest.raises(FrugalError, match=r"billed \$0.1 .* asked nothing more"):
        labels.buy(Greedy(0.1, batch=1), examples, tmp_path, cap_usd=9)
    assert len(answered(tmp_path)) == 1
    assert labels.buy(Greedy(0.1), examples[:1], tmp_path, cap_usd=9).labels == [examples[0].label]
