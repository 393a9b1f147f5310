"""Servers as they are: newer ones, those without manners, and those that lie about the bill."""

import json
import math
import random
import unicodedata

import chat_server
import pytest

from frugal import stats, tasks
from frugal.budgets import labels
from frugal.budgets.endpoint import Endpoint
from frugal.budgets.replies import KEY
from frugal.budgets.source import Answer
from frugal.errors import FrugalError
from frugal.tasks.templates import Example


def billed_usd(meter):
    return meter.usd(**chat_server.PRICE)


def lines(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("refuses", [(), ("max_tokens",), ("temperature",), ("system",)])
def test_what_a_server_does_not_take_is_left_out_from_then_on(
    tmp_path, examples, endpoint, refuses
):
    shots = tuple(tasks.load("counting").draw(21, 0)[20:])
    source, meter = endpoint(lies={"refuses": refuses}, batch=1, shots=shots)
    bought = labels.buy(source, examples[:6], tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert len(meter.requests) == 6 + len(refuses)  # it is told once
    assert (bought.lost_usd, bought.spent_usd) == (0, pytest.approx(billed_usd(meter)))
    last = meter.requests[-1]
    assert not {*refuses} & {*last, *(m["role"] for m in last["messages"])}
    limit = last.get("max_tokens", last.get("max_completion_tokens"))
    assert limit == source._answer_tokens(examples[5])
    said = "\n".join(m["content"] for m in last["messages"])
    assert "Answer with exactly one of these, and nothing else: a | b b" in said
    assert [m["role"] for m in last["messages"]][-3:] == ["user", "assistant", "user"]


def test_a_server_that_refuses_all_of_it_is_told_three_things(tmp_path, examples, endpoint):
    everything = ("max_tokens", "temperature", "system")
    source, meter = endpoint(lies={"refuses": everything}, batch=1)
    assert None not in labels.buy(source, examples[:3], tmp_path, cap_usd=50).labels
    assert len(meter.requests) == 6


def test_answers_that_nobody_can_read_end_the_purchase_soon(tmp_path, examples, endpoint):
    source, meter = endpoint({"all": "malformed"}, batch=4)
    with pytest.raises(FrugalError, match=r"last 8 .* no label.*I think the answer .*--answer-tok"):
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert len(meter.requests) == 8
    few, meter = endpoint({"all": "empty"}, batch=4)
    with pytest.raises(FrugalError, match="all 2 examples"):
        labels.buy(few, examples[:2], tmp_path / "few", cap_usd=50)
    assert len(meter.requests) == 6


def test_a_few_answers_that_nobody_can_read_end_nothing(tmp_path, examples, endpoint):
    bad = [e.prompt for e in examples[::2]]
    answer = chat_server.answer_to
    source, meter = endpoint(
        lies={"answer": lambda p: "hard to say" if p in bad else answer(p)}, batch=1
    )
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert bought.labels.count(None) == 10
    assert len(meter.requests) == 20 + labels.PATIENCE  # that many in a row, and no more
    assert bought.given_up + bought.unasked == 10


def test_a_server_that_always_fails_is_not_paid_for_ever(tmp_path, examples, endpoint):
    source, meter = endpoint({"all": "502"}, batch=4)
    with pytest.raises(FrugalError, match="HTTP 502"):
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert len(meter.requests) == 8
    found = labels.buy(source, examples[:1], tmp_path, cap_usd=0)
    assert found.lost_usd == pytest.approx(sum(source.most_usd(e) for e in examples[:8]))


def test_one_text_that_is_refused_does_not_end_the_others(tmp_path, examples, endpoint):
    source, meter = endpoint({1: "400"}, batch=1)
    bought = labels.buy(source, examples[:6], tmp_path, cap_usd=50)
    assert (bought.given_up, bought.labels.count(None), len(meter.requests)) == (1, 1, 6)
    assert bought.lost_usd == pytest.approx(source.most_usd(examples[1]))  # it may be billed
    assert labels.buy(source, examples[:6], tmp_path, cap_usd=50) == bought
    source, meter = endpoint({"all": "400"}, batch=2)
    with pytest.raises(FrugalError, match="HTTP 400"):
        labels.buy(source, examples, tmp_path / "all", cap_usd=50)
    assert len(meter.requests) == 2


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10**9, "completion_tokens": 1, "total_tokens": 1},
        {"prompt_tokens": 20, "completion_tokens": 10**400},
        {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 10**7},
    ],
)
def test_a_bill_above_the_reservation_ends_all_purchases_there(tmp_path, examples, endpoint, usage):
    source, meter = endpoint(lies={"usage": usage}, batch=2)
    for message in (r"billed \$\S+ where at most \$\S+ was due", "asked nothing more"):
        with pytest.raises(FrugalError, match=message):
            labels.buy(source, examples, tmp_path, cap_usd=50)
        assert len(meter.requests) == 2
    bought = labels.buy(source, examples[:2], tmp_path, cap_usd=50)  # what is paid for is kept
    assert None not in bought.labels
    assert bought.spent_usd == pytest.approx(sum(source.most_usd(e) for e in examples[:2]))


@pytest.mark.parametrize(
    "usage",
    [
        *(None, "free", [], {}, {"prompt_tokens": -40000, "completion_tokens": -1}),
        {"prompt_tokens": math.nan, "completion_tokens": 0, "total_tokens": "many"},
    ],
)
def test_a_bill_that_is_none_counts_as_the_most(tmp_path, examples, endpoint, usage):
    source, meter = endpoint(lies={"usage": usage})
    cap = labels.quote(source, examples).most_usd / 2
    bought = labels.buy(source, examples, tmp_path, cap_usd=cap)
    assert billed_usd(meter) <= bought.spent_usd <= cap
    assert 0 < bought.labels.count(None) == bought.unasked
    assert all(r["usd"] > 0 for r in lines(tmp_path)[1:])


@pytest.mark.parametrize(
    "message",
    [
        *(None, [], "a", {"content": None}, {"content": 5}, {"content": "\ud800"}),
        {"content": None, "refusal": "No."},
        {"content": None, "tool_calls": [{"function": {"arguments": "a"}}]},
    ],
)
def test_messages_of_every_shape_are_paid_and_end_in_one_line(
    tmp_path, examples, endpoint, message
):
    source, meter = endpoint(lies={"message": message})
    with pytest.raises(FrugalError, match="got no label"):
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert len(meter.requests) == 8
    found = labels.buy(source, examples, tmp_path, cap_usd=0)
    assert (found.malformed, found.spent_usd) == (8, pytest.approx(billed_usd(meter)))


def test_an_answer_in_parts_is_read(tmp_path, examples, endpoint):
    parts = {"content": [{"type": "text", "text": " "}, {"type": "text", "text": "b b"}]}
    source, _ = endpoint(lies={"message": parts})
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert {e.choices[y] for e, y in zip(examples, bought.labels, strict=True)} == {" b b"}


def test_an_answer_is_kept_while_another_does_not_come(tmp_path, examples, endpoint):
    """Of a batch, what has come is written down before the last of it is there."""
    source, _ = endpoint({1: "drip"}, batch=3, seconds=1.5)
    answers = source.ask(examples[:3], 0)
    assert {next(answers)[1].state, next(answers)[1].state} == {"answered"}
    assert next(answers)[1].state == "lost"
    assert not list(answers)


def test_a_key_that_a_server_echoes_is_neither_kept_nor_shown(tmp_path, examples, endpoint):
    source, _ = endpoint({0: "echo", 1: "502", 2: "403"}, batch=3)
    with pytest.raises(FrugalError, match="HTTP 403") as error:
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert chat_server.KEY not in str(error.value)
    assert "***" in (tmp_path / "answers.jsonl").read_text()
    assert all(chat_server.KEY not in p.read_text() for p in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://me:hunter22@host/v1", "no user, password or query"),
        ("https://host/v1?key=hunter22", "no user, password or query"),
        ("ftp://host/v1", "no http"),
        ("host:80", "no http"),
        ("http://host:port/v1", "no http"),
        ("http://[::1", "no http"),
        ("", "is not set"),
    ],
)
def test_odd_addresses_are_refused_before_anything_is_written(
    tmp_path, examples, endpoint, monkeypatch, url, message
):
    monkeypatch.delenv(KEY, raising=False)
    source = Endpoint("m", 1, 1, url)
    with pytest.raises(FrugalError, match=message) as error:
        labels.buy(source, examples, tmp_path / "new", cap_usd=50)
    assert "hunter22" not in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("key", ["sk-a\nb", "sk a", "sk-ä"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
    tmp_path, examples, endpoint, monkeypatch, key
):
    source, meter = endpoint()
    monkeypatch.setenv(KEY, key)
    with pytest.raises(FrugalError, match="holds characters") as error:
        labels.buy(source, examples, tmp_path, cap_usd=50)
    assert key not in str(error.value)
    assert not meter.requests


def test_choices_that_a_server_cannot_tell_apart_are_refused(tmp_path, endpoint):
    source, meter = endpoint()
    alike = Example(prompt="Which?", choices=("x", " x"), label=0)
    with pytest.raises(FrugalError, match="cannot tell the choices of 'Which"):
        labels.buy(source, [alike], tmp_path, cap_usd=50)
    assert not meter.requests


@pytest.mark.parametrize("text", ["plain words", "한국어 문장", "ﷺ" * 50, "👩‍💻é" * 9, " " * 40])
def test_no_tokenizer_reads_more_than_is_reserved(text):
    """A token is a byte at least, of the text in whatever form a tokenizer brings it to."""
    asked = Example(prompt=text, choices=(" a", " b"), label=0)
    most = Endpoint("m", 1.0, 0.0).most_usd(asked) * 1000
    turns = Endpoint("m", 1.0, 0.0).messages(asked)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        read = sum(len(unicodedata.normalize(form, m["content"]).encode()) for m in turns)
        assert read + 16 * len(turns) <= most
    with pytest.raises(FrugalError, match="seconds"):
        Endpoint("m", 1, 1, seconds=math.nan)


@pytest.mark.parametrize("counted", ["in", "beside", "apart"])
def test_thoughts_are_counted_wherever_a_server_says_them(tmp_path, examples, endpoint, counted):
    lies = {"thoughts": 30, "counted": counted}
    source, meter = endpoint(lies=lies, answer_tokens=60)
    planned = labels.quote(source, examples)
    bought = labels.buy(source, examples, tmp_path, cap_usd=planned.most_usd)
    assert None not in bought.labels
    assert bought.reasoning_tokens == 20 * 30
    assert bought.tokens == sum(meter.tokens)
    assert bought.spent_usd == pytest.approx(billed_usd(meter))
    assert bought.spent_usd <= planned.expected_usd + 20 * 60 * 1.5 / 1000 <= planned.most_usd * 2


def test_thoughts_that_leave_no_answer_say_what_would(tmp_path, examples, endpoint):
    source, _ = endpoint(lies={"thoughts": 500}, answer_tokens=40)
    with pytest.raises(
        FrugalError, match=r"'\[all 40 tokens went to thoughts: more with --answer-tokens\]"
    ):
        labels.buy(source, examples, tmp_path, cap_usd=50)
    more = Endpoint(source.model, **chat_server.PRICE, base_url=source.base_url, answer_tokens=600)
    assert None not in labels.buy(more, examples, tmp_path, cap_usd=50).labels


def test_effort_is_sent_as_asked_and_never_dropped(tmp_path, examples, endpoint):
    source, meter = endpoint(effort="low", answer_tokens=60)
    assert None not in labels.buy(source, examples, tmp_path / "low", cap_usd=50).labels
    assert {body["reasoning_effort"] for body in meter.requests} == {"low"}
    plain, _ = endpoint(answer_tokens=60)
    assert "reasoning_effort" not in plain.request(examples[0], 0)
    assert plain.identity() != source.identity()
    unable, meter = endpoint(lies={"refuses": ("reasoning_effort",)}, effort="low")
    with pytest.raises(FrugalError, match="Unrecognized request argument supplied: reasoning_effo"):
        labels.buy(unable, examples, tmp_path / "unable", cap_usd=50)
    assert not meter.billed


def test_cached_tokens_are_billed_at_their_price_and_reserved_at_the_full_one(
    tmp_path, examples, endpoint
):
    source, meter = endpoint(lies={"cached": 0.5}, usd_per_1k_cached=0.05)
    dear, _ = endpoint()
    assert labels.quote(source, examples) == labels.quote(dear, examples)
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert bought.cached_tokens == meter.cached_tokens > 0
    billed = meter.usd(**chat_server.PRICE, usd_per_1k_cached=0.05)
    assert bought.spent_usd == pytest.approx(billed)
    assert billed < billed_usd(meter)


def test_what_a_cache_takes_in_is_reserved_and_billed_where_it_is_dearer(
    tmp_path, examples, endpoint
):
    source, meter = endpoint(lies={"cached": 0.5}, usd_per_1k_cached=0.05, usd_per_1k_write=0.625)
    plain, _ = endpoint()
    assert source.most_usd(examples[0]) > plain.most_usd(examples[0])
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    new = meter.tokens[0] - meter.cached_tokens
    usd = (new * 0.625 + meter.cached_tokens * 0.05 + meter.tokens[1] * 1.5) / 1000
    assert bought.spent_usd == pytest.approx(usd)
    for wrong in ({"usd_per_1k_cached": 0.6}, {"usd_per_1k_cached": -1}, {"usd_per_1k_write": -1}):
        with pytest.raises(FrugalError, match="usd_"):
            Endpoint("m", 0.5, 1.5, **wrong)


@pytest.mark.parametrize("bad", [0.5, 0.7, 0.8, 1.0])
def test_a_share_that_cannot_be_read_ends_the_purchase_once_it_is_sure(tmp_path, endpoint, bad):
    many = [Example(prompt=f"Word: a {i}", choices=(" a", " b b"), label=0) for i in range(200)]
    said = {e.prompt: "a" if 7 * i % 10 >= 10 * bad else f"well, {i}" for i, e in enumerate(many)}
    source, meter = endpoint(lies={"answer": said.get}, batch=1)
    if bad == 0.5:
        assert labels.buy(source, many[:40], tmp_path, cap_usd=50).malformed >= 20
        return
    with pytest.raises(FrugalError, match="got no label") as error:
        labels.buy(source, many, tmp_path, cap_usd=50)
    if bad == 1.0:
        assert len(meter.requests) == labels.PATIENCE
        return
    asked = len(meter.requests)
    empty = sum(said[b["messages"][-1]["content"]] != "a" for b in meter.requests)
    low = stats.wilson(empty, asked)[0]
    assert labels.ENOUGH <= asked < 60
    assert low > labels.WASTE
    assert f"{empty} of the first {asked} examples" in str(error.value)
    assert f"at least {low:.0%} of the money would buy none (95 % sure)" in str(error.value)
    seen = [said[b["messages"][-1]["content"]] for b in meter.requests]
    assert ", ".join(map(repr, [t for t in seen if t != "a"][-3:])) in str(error.value)
    again = labels.buy(source, many[:asked], tmp_path, cap_usd=0)
    assert len(again.labels) - again.labels.count(None) == asked - empty  # nothing is lost


@pytest.mark.parametrize(("bad", "least", "most"), [(0.4, 0, 0.03), (0.6, 0.97, 1)])
def test_looking_often_seldom_ends_a_purchase_that_is_worth_it(bad, least, most):
    chance, stopped = random.Random(0), 0
    for _ in range(200):
        patience = labels._Patience()
        for n in range(1, 501):
            choice = None if chance.random() < bad else 0
            patience.take(Answer(choice, 1.0), first=True)
            if n % 4 == 0 and patience.wasted > labels.WASTE:
                stopped += 1
                break
    assert least <= stopped / 200 <= most


@pytest.mark.parametrize("share", [0, 0.01])
def test_a_count_below_the_words_of_the_prompt_is_no_count(tmp_path, examples, endpoint, share):
    def less(usage):
        return {k: int(v * share) + 1 for k, v in usage.items()}

    source, meter = endpoint(lies={"usage": less})
    cap = labels.quote(source, examples).most_usd / 3
    bought = labels.buy(source, examples, tmp_path, cap_usd=cap)
    assert 0 < bought.labels.count(None) == bought.unasked
    assert billed_usd(meter) <= bought.spent_usd <= cap
