"""Batches: half the price, asked once, fetched by whoever comes after a kill."""

import contextlib
import dataclasses
import errno
import json
import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import chat_server
import pytest
from test_labels import answered, buy_until_done, lines

from children import Child
from frugal.budgets import labels
from frugal.budgets.endpoint import Endpoint
from frugal.errors import FrugalError

CREATE = ("hang up", "502", "408")


@pytest.fixture
def many():
    return chat_server.words(60)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("frugal.budgets.batches.PAUSE", 0.02)


@pytest.fixture
def batched(endpoint):
    def start(faults=(), **options):
        return endpoint(faults, batch_share=0.5, **options)

    return start


def billed_usd(meter):
    return meter.usd(**chat_server.PRICE)


def test_a_batch_costs_half_and_the_first_are_asked_about_alone(tmp_path, many, batched):
    source, meter = batched(lies={"polls": 3})
    source = dataclasses.replace(source, base_url=f"{source.base_url}/")
    bought = labels.buy(source, many, tmp_path, cap_usd=50)
    assert bought.labels == [e.label for e in many]
    assert set(meter.billed.values()) == {1}
    assert len(meter.batches) == 1
    (file,) = [f for n, f in meter.files.items() if "output" not in n]
    assert len(file.splitlines()) == 60 - labels.ENOUGH
    assert bought.spent_usd == pytest.approx(billed_usd(meter))
    assert meter.half[0] > meter.tokens[0] / 2
    alone = Endpoint(source.model, **chat_server.PRICE, base_url=source.base_url)
    full, tried = (labels.quote(alone, some).most_usd for some in (many, many[: labels.ENOUGH]))
    assert bought.quote.most_usd == pytest.approx(tried + (full - tried) / 2)
    assert labels.buy(source, many, tmp_path, cap_usd=50) == bought
    assert len(meter.requests) == 60


def test_what_a_server_refuses_is_known_before_a_batch_is_made(tmp_path, many, batched):
    everything = ("max_tokens", "temperature", "system", "response_format")
    source, meter = batched(lies={"refuses": everything})
    assert None not in labels.buy(source, many, tmp_path, cap_usd=50).labels
    assert len(meter.requests) == 60 + 4
    again = Endpoint(source.model, **chat_server.PRICE, base_url=source.base_url, batch_share=0.5)
    more = chat_server.words(100)
    assert None not in labels.buy(again, more, tmp_path, cap_usd=50).labels
    assert len(meter.batches) == 2  # one was asked about alone, to find out


def test_the_cap_holds_for_all_of_a_batch(tmp_path, many, batched):
    source, meter = batched()
    cap = 1.2  # all of them cost 1.6, and may cost more
    assert labels.quote(source, many).most_usd > 2 * cap
    bought = labels.buy(source, many, tmp_path, cap_usd=cap)
    assert 0 < bought.unasked == bought.labels.count(None)
    assert billed_usd(meter) <= bought.spent_usd + bought.lost_usd <= cap


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_write_a_batch_is_asked_once(tmp_path, many, batched, monkeypatch, seed):
    choose = random.Random(seed)
    source, meter = batched({30: "malformed", 33: "dropped", 41: "500"}, batch=5)
    kills = [(choose.randrange(1, 70), choose.random() < 0.5) for _ in range(5)]
    bought, deaths = buy_until_done(monkeypatch, kills, source, many, tmp_path, 50)
    assert deaths >= 1
    check(bought, meter, many, tmp_path, 50)


def check(bought, meter, examples, folder, cap):
    """Every label is kept and paid once; what was billed is within what the ledger says."""
    good = Counter(r["key"] for r in answered(folder) if r["choice"] is not None)
    assert set(good.values()) == {1}
    assert len(good) + bought.unasked + bought.given_up == len(examples)
    assert sum(y is not None for y in bought.labels) == len(good)
    assert bought.spent_usd <= billed_usd(meter) + 1e-9
    assert billed_usd(meter) <= bought.spent_usd + bought.lost_usd + 1e-9
    assert bought.spent_usd + bought.lost_usd <= cap
    unanswered = Counter(r["asked"] for r in lines(folder) if "asked" in r)
    for example in examples:  # asked again only where no answer had come
        assert meter.billed[example.prompt] <= max(1, unanswered[labels.key(example)])


@pytest.mark.parametrize("options", [{"batch_share": 0.5}, {}])
def test_a_batch_of_a_killed_process_is_fetched_and_not_asked_again(
    tmp_path, many, batched, options
):
    source, meter = batched(lies={"polls": 10**6})
    process = Child(lambda: labels.buy(source, many, tmp_path, cap_usd=50))
    while not any("made" in line for line in lines_so_far(tmp_path)):
        assert process.runs()
        time.sleep(0.02)
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (batch,) = meter.batches.values()
    meter.polls = batch["polls"] + 2
    other = Endpoint(source.model, **chat_server.PRICE, base_url=source.base_url, **options)
    bought = labels.buy(other, many, tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert (bought.lost_usd, set(meter.billed.values())) == (0, {1})
    assert bought.spent_usd == pytest.approx(billed_usd(meter))


def lines_so_far(folder):
    file = folder / "answers.jsonl"
    return [json.loads(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


@pytest.mark.parametrize("fault", CREATE)
def test_a_batch_that_was_made_without_a_word_is_found_by_its_name(tmp_path, many, batched, fault):
    source, meter = batched({"create": fault})
    made = fault == "hang up"
    if made:
        bought = labels.buy(source, many, tmp_path, cap_usd=50)
        assert bought.lost_usd == 0
    else:
        with pytest.raises(FrugalError, match="did not say whether it made a batch"):
            labels.buy(source, many, tmp_path, cap_usd=50)
        bought = labels.buy(source, many, tmp_path, cap_usd=50)
        most = sum(source.most_usd(e) for e in many[labels.ENOUGH :]) / 2
        assert bought.lost_usd == pytest.approx(most)  # nobody can say that it is not billed
    assert None not in bought.labels
    assert set(meter.billed.values()) == {1}
    assert len(meter.batches) == 1


@pytest.mark.parametrize("fault", ["400", "404", "429"])
def test_a_batch_that_is_refused_costs_nothing(tmp_path, many, batched, fault):
    source, meter = batched({"create": fault})
    with pytest.raises(FrugalError, match=f"takes no batch: HTTP {fault}"):
        labels.buy(source, many, tmp_path, cap_usd=50)
    bought = labels.buy(source, many, tmp_path, cap_usd=50)
    assert (None in bought.labels, bought.lost_usd) == (False, 0)
    assert set(meter.billed.values()) == {1}


@pytest.mark.parametrize("after", range(4))
def test_a_full_disk_loses_no_answer_of_a_batch(
    tmp_path, many, batched, monkeypatch, capsys, after
):
    source, meter = batched()
    labels.buy(source, many[: labels.ENOUGH], tmp_path, cap_usd=50)
    real, writes = os.write, []

    def write(fd, data):
        writes.append(data)
        if len(writes) > (1, 3, 5, 8)[after]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(FrugalError, match="No space left"):
            labels.buy(source, many, tmp_path, cap_usd=50)
    assert capsys.readouterr().err.count("paid for, but not in") <= 1
    bought = labels.buy(source, many, tmp_path, cap_usd=50)
    assert (None in bought.labels, bought.lost_usd) == (False, 0)
    assert set(meter.billed.values()) == {1}


@pytest.mark.parametrize("call", ["upload", "state", "content"])
@pytest.mark.parametrize("fault", ["502", "429", "hang up", "cut"])
def test_calls_that_change_nothing_are_repeated(tmp_path, many, batched, call, fault):
    source, meter = batched({call: fault})
    bought = labels.buy(source, many, tmp_path, cap_usd=50)
    assert (None in bought.labels, bought.lost_usd) == (False, 0)
    assert (set(meter.billed.values()), len(meter.batches)) == ({1}, 1)


def test_what_an_expired_batch_did_is_kept_and_the_rest_is_asked_again(tmp_path, many, batched):
    source, meter = batched(lies={"does": 15})
    with pytest.raises(FrugalError, match=r"not done when its time was over.*keeps all answers"):
        labels.buy(source, many, tmp_path, cap_usd=50)
    assert len(answered(tmp_path)) == labels.ENOUGH + 15
    meter.does = None
    bought = labels.buy(source, many, tmp_path, cap_usd=50)
    assert (None in bought.labels, bought.lost_usd) == (False, 0)
    assert set(meter.billed.values()) == {1}
    assert bought.spent_usd == pytest.approx(billed_usd(meter))


def test_a_batch_that_fails_as_a_whole_is_no_cost(tmp_path, many, batched):
    source, _ = batched({"create": "fail"})
    with pytest.raises(FrugalError, match=r"the batch failed: .*line 1 is no request"):
        labels.buy(source, many, tmp_path, cap_usd=50)
    bought = labels.buy(source, many, tmp_path, cap_usd=50)
    assert (None in bought.labels, bought.lost_usd) == (False, 0)


def test_a_line_that_is_not_there_is_a_lost_answer_and_asked_again(tmp_path, many, batched):
    source, meter = batched({25: "dropped", 26: "500", 27: "400"})
    bought = labels.buy(source, many, tmp_path, cap_usd=50)
    asked = [b["messages"][-1]["content"] for b in meter.requests[:60]]
    by_prompt = {e.prompt: e for e in many}
    odd = [by_prompt[asked[n]] for n in (25, 26, 27)]
    assert bought.lost_usd == pytest.approx(sum(source.most_usd(e) for e in odd) / 2)
    assert (bought.given_up, bought.labels.count(None)) == (1, 1)  # the one that was refused
    assert sorted(meter.billed.values())[-2:] == [1, 2]


def test_a_server_whose_answers_cannot_be_read_gets_no_batch(tmp_path, many, batched):
    source, meter = batched({n: "malformed" for n in range(60) if n % 4})
    with pytest.raises(FrugalError, match="of the money would buy none"):
        labels.buy(source, many, tmp_path, cap_usd=50)
    assert (len(meter.requests), meter.batches) == (20, {})


def test_a_bill_above_the_reservation_ends_batches_too(tmp_path, many, batched):
    def more(usage):
        few = len(meter.requests) <= labels.ENOUGH
        return usage if few else {**usage, "prompt_tokens": 10**6}

    source, meter = batched(lies={"usage": more})
    with pytest.raises(FrugalError, match=r"billed \$\S+ where at most \$\S+ was due"):
        labels.buy(source, many, tmp_path, cap_usd=50)
    with pytest.raises(FrugalError, match="asked nothing more"):
        labels.buy(source, chat_server.words(61), tmp_path, cap_usd=50)
    assert (len(answered(tmp_path)), len(meter.requests)) == (60, 60)


@pytest.mark.parametrize(
    "files",
    [
        "", "null", "[]", "{}\n3\n", "\xff", '{"custom_id": 5}\n{"custom_id": "another"}\n',
        '{"custom_id": NAME, "response": {"status_code": "200"}}\n',
        '{"custom_id": NAME, "response": {"status_code": 200, "body": [1]}}\n',
        '{"custom_id": NAME, "response": null, "error": {"code": "odd \\ud800"}}\n',
    ],
)  # fmt: skip
def test_files_of_every_shape_are_lost_answers(tmp_path, many, batched, monkeypatch, files):
    source, meter = batched()
    real = chat_server.Handler.ending

    def ending(self, call, document):
        if call == "content":
            asked = [v for k, v in meter.files.items() if "output" not in k][-1]
            name = json.dumps(json.loads(asked.split("\n")[0])["custom_id"])
            document = files.replace("NAME", name)
        return real(self, call, document)

    monkeypatch.setattr(chat_server.Handler, "ending", ending)
    with pytest.raises(FrugalError, match="40 of the first 60 examples asked about got no label"):
        labels.buy(source, many, tmp_path, cap_usd=50)
    bought = labels.buy(source, many, tmp_path, cap_usd=0)
    assert bought.labels.count(None) == 40 == bought.given_up + bought.unasked
    assert billed_usd(meter) <= bought.spent_usd + bought.lost_usd <= 50


@pytest.mark.parametrize(("status", "said"), [(404, "no"), (200, "x" * (1 << 22))])
def test_a_batch_whose_files_are_none_ends_no_later_purchase(
    tmp_path, many, batched, monkeypatch, status, said
):
    source, meter = batched()
    real = chat_server.Handler.ending

    def ending(self, call, document):
        return self.send(status, said) if call == "content" else real(self, call, document)

    with monkeypatch.context() as patch:
        patch.setattr(chat_server.Handler, "ending", ending)
        with pytest.raises(FrugalError, match="the batch has no answer to it"):
            labels.buy(source, many, tmp_path, cap_usd=50)
    bought = labels.buy(source, many, tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert bought.lost_usd == pytest.approx(
        sum(source.most_usd(e) for e in many[labels.ENOUGH :]) / 2
    )
    assert billed_usd(meter) <= bought.spent_usd + bought.lost_usd


def test_without_a_working_lock_batches_do_not_pass_the_cap(tmp_path, many, batched, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda fd, operation: None)
    for number, cap_share in enumerate((0.3, 3, 3, 3)):
        source, meter = batched(batch=3, lies={"polls": 3})
        other = dataclasses.replace(source, batch=5)
        cap, folder = labels.quote(source, many).most_usd * cap_share, tmp_path / str(number)

        def buy(who, cap=cap, folder=folder):
            with contextlib.suppress(FrugalError):  # the other one has taken its reservations
                labels.buy(who, many, folder, cap_usd=cap)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(buy, (source, other)))
        bought = labels.buy(source, many, folder, cap_usd=cap)
        assert billed_usd(meter) <= bought.spent_usd + bought.lost_usd <= cap
        assert cap_share < 1 or None not in bought.labels


def test_batches_are_made_and_read_as_openais_own_client_does_it(tmp_path, many, batched):
    openai = pytest.importorskip("openai")
    source, meter = batched({30: "500"})
    labels.buy(source, many, tmp_path, cap_usd=50)
    mine, meter.calls = meter.calls, []
    lines = next(iter(meter.files.values()))
    client = openai.OpenAI(api_key=chat_server.KEY, base_url=source.base_url, max_retries=0)
    file = client.files.create(file=("own.jsonl", lines.encode()), purpose="batch")
    asked = next(body for method, path, body in mine if path == "/v1/batches")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata=asked["metadata"],
    )
    assert batch.id in [found.id for found in client.batches.list(limit=100)]
    meter.calls.pop()
    batch = client.batches.retrieve(batch.id)
    read = [client.files.content(n).text for n in (batch.output_file_id, batch.error_file_id) if n]
    assert sum(len(text.splitlines()) for text in read) == len(lines.splitlines()) == 40

    def plain(calls):
        names = [*meter.files, *meter.batches]
        for name in sorted(names, key=len, reverse=True):
            calls = json.loads(json.dumps(calls).replace(name, "NAME"))
        return calls[:4]

    assert plain(mine) == plain(meter.calls)


@pytest.mark.parametrize("form", ["auto", "logprobs", "text"])
def test_a_request_is_one_to_openais_own_types(many, form):
    pytest.importorskip("openai")
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from pydantic import ConfigDict, TypeAdapter, with_config

    known = with_config(ConfigDict(extra="forbid"))(CompletionCreateParamsNonStreaming)
    request = Endpoint("m", 1, 1, form=form, answer_tokens=9).request(many[0], 0)
    assert TypeAdapter(known).validate_python(request)["max_tokens"] == 9
    with pytest.raises(ValueError, match="top_logprob"):
        TypeAdapter(known).validate_python({**request, "top_logprob": 5})


def test_a_share_of_the_price_is_one(tmp_path):
    for odd in (-0.5, 1.5, float("nan")):
        with pytest.raises(FrugalError, match="batch_share"):
            Endpoint("m", 1, 1, batch_share=odd)
