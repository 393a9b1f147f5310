"""What a server says: read where it names one choice, and no number of it is believed unseen."""

import json
import math
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frugal.budgets import replies
from frugal.budgets.endpoint import Endpoint
from frugal.budgets.replies import parse
from frugal.tasks.templates import Example

MOOD = (" negative", " positive")


@pytest.mark.parametrize(
    ("text", "choices", "choice"),
    [
        (" positive", MOOD, 1),
        ("Positive.", MOOD, 1),
        ("'negative'\nbecause it is long", MOOD, 0),
        ("**Negative**", MOOD, 0),
        ("not positive", MOOD, None),
        ("positive or negative", MOOD, None),
        ("", MOOD, None),
        ("neutral", MOOD, None),
        ("positive\n\nNegative", MOOD, None),
        ("positive\npositive!", MOOD, 1),
        ("```\npositive\n```", MOOD, 1),
        ("<think>\nIt is negative?\n</think>\n\npositive", MOOD, 1),
        ("It is negative?</think>positive", MOOD, 1),
        ("<think>\npositive", MOOD, None),
        ("<think>a</think><think>positive", MOOD, None),
        ("“positive”", MOOD, 1),
        ("「positive」。", MOOD, 1),
        ("ＰＯＳＩＴＩＶＥ．", MOOD, 1),
        ("\ufeffposi\u200btive", MOOD, 1),
        ("\ud800positive", MOOD, None),
        ("正面。", ("正面", "负面"), 0),
        (unicodedata.normalize("NFD", "긍정"), ("긍정", "부정"), 0),
        ("긍정", tuple(unicodedata.normalize("NFD", c) for c in ("부정", "긍정")), 1),
        ("caf\u00e9", ("cafe", "cafe\u0301"), 1),
        ("!", (".", "!", "?"), 1),
        ('"!"', (".", "!", "?"), None),
        ("*", ("*", "**", "***"), 0),
        (" ** ", ("*", "**", "***"), 1),
        ("*\nIt is bad.", ("*", "**"), 0),
        ("****", ("*", "**"), None),
        ("**positive**", ("*positive", "*negative"), 0),
        ("US", (" US", " us"), 0),
        ("us", (" US", " us"), 1),
        ("us", (" us", " US", " uk"), 0),
        ("Us", (" US", " us"), None),
        ("uk.", (" us", " US", " UK"), 2),
        ("A", ("A", "A+", "A-"), 0),
        ("A-.", ("A", "A+", "A-"), 2),
        ("a+", ("A", "A+", "A-"), 1),
        ("(B)", ("A", "B"), 1),
        ("1", ("-1", "2"), None),
        ("entail", ("entailment", "not entailment"), None),
        ("①", ("1", "①"), 1),
        ("👍\ufe0f", ("👍", "👎"), 0),
    ],
)
def test_only_a_choice_is_an_answer(text, choices, choice):
    assert parse(text, choices) == choice


def test_a_text_that_was_cut_off_is_no_answer_where_it_may_go_on():
    assert parse("no", ("no", "no way"), cut=True) is None
    assert parse("no way", ("no", "no way"), cut=True) == 1
    assert parse("no", ("no", "no way")) == 0


@given(st.lists(st.text(min_size=1), min_size=2, max_size=4, unique_by=str.strip), st.data())
@settings(max_examples=40, deadline=None)
def test_every_choice_is_its_own_answer(choices, data):
    choices = [c for c in choices if c.strip() and not c.lstrip().startswith("<")]
    for i, choice in enumerate(choices):
        assert parse(choice, choices) == i
        assert parse(f"<think>{choices[0]}</think>\n{choice}", choices) == i


NAMES = [
    *("role", "content", "refusal", "text", "type", "message", "finish_reason", "tool_calls"),
    *("choices", "usage", "error", "prompt_tokens", "completion_tokens", "total_tokens"),
    *("cached_tokens", "prompt_tokens_details"),
]
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=9)
    | st.sampled_from([10**400, -(10**400), 1e308, "20", " positive", "</think>positive"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)
ENDPOINT = Endpoint("m", 0.5, 1.5, "http://127.0.0.1:9/v1")
ASKED = Example(prompt="Good.", choices=MOOD, label=1)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "choices": ANY | st.lists(st.dictionaries(st.just("message"), ANY)),
            "usage": ANY
            | st.dictionaries(
                st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), ANY
            ),
        },
    )
    | ANY
)
@example({"choices": [{"message": {"content": [{"text": " posi"}, "tive"]}}], "usage": None})
@example({"choices": [{"message": {"content": None, "refusal": "no"}}], "usage": []})
@example({"choices": [{"message": {"content": None, "tool_calls": [{}]}}]})
@example({"error": {"message": "overloaded"}})
@settings(max_examples=100, deadline=None)
def test_whatever_a_server_answers_is_an_answer_with_a_sound_bill(body):
    most = ENDPOINT.most_usd(ASKED)
    answer = ENDPOINT._read(ASKED, json.dumps(body).encode())
    assert answer.choice in (None, 0, 1)
    assert answer.state in ("answered", "lost")
    assert answer.usd > 0
    assert not math.isnan(answer.usd)
    json.dumps(vars(answer), ensure_ascii=False).encode()
    assert len(answer.text) <= replies.TEXT
    assert 0 <= answer.cached <= answer.tokens <= most * 2000
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        assert answer.usd == most


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_bytes_that_are_no_json_are_a_lost_answer_at_the_highest_price(data):
    answer = ENDPOINT._read(ASKED, b"x" + data)
    assert (answer.state, answer.usd) == ("lost", ENDPOINT.most_usd(ASKED))


@pytest.mark.parametrize(
    ("usage", "read", "written"),
    [
        ({"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}, 30, 2),
        ({"prompt_tokens": 30, "completion_tokens": 2}, 30, 2),
        ({"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 39}, 30, 9),  # thoughts
        ({"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": -1}, 30, 2),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, 100, 20),
        ({"prompt_tokens": -30, "completion_tokens": -2}, 100, 20),
        ({"prompt_tokens": "30", "completion_tokens": [2]}, 100, 20),
        ({"prompt_tokens": math.nan, "completion_tokens": math.inf}, 100, 20),
        ({"prompt_tokens": True, "completion_tokens": 2.0}, 100, 20),
        ({"prompt_tokens": 30}, 30, 20),
        ({}, 100, 20),
        (None, 100, 20),
        ("free", 100, 20),
        ([0, 0], 100, 20),
    ],
)
def test_a_count_of_tokens_is_believed_where_it_can_be_one(usage, read, written):
    said = {"choices": [{"message": {"content": "positive"}}], "usage": usage}
    reply = replies.completion(said, MOOD, 100, 20)
    assert (reply.choice, reply.read, reply.written) == (1, read, written)


@pytest.mark.parametrize(
    ("more", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 8}}, 8),
        ({"prompt_cache_hit_tokens": 7}, 7),
        ({"prompt_tokens_details": {"cached_tokens": 800}}, 30),
        ({"prompt_tokens_details": {"cached_tokens": -8}}, 0),
        ({"prompt_tokens_details": [8]}, 0),
    ],
)
def test_cached_tokens_are_reported(more, cached):
    usage = {"prompt_tokens": 30, "completion_tokens": 2, **more}
    assert replies.completion({"usage": usage}, MOOD, 100, 20).cached == cached


@pytest.mark.parametrize("secret", ['sk-abc"de\\f/gh+ij=', "EMPTY", "sk-proj-" + "a1B2" * 30])
def test_no_spelling_of_the_key_is_passed_on(monkeypatch, secret):
    monkeypatch.setenv(replies.KEY, secret + "\n")
    spellings = [secret, json.dumps(secret), repr({"key": secret}), f"Bearer {secret}"]
    spellings += [f"https://user:{secret}@host/simple", secret[:40], secret[-40:]]
    for text in spellings:
        found = replies.redacted(f"refused: {text} \x1b[31m\nnext")
        assert secret not in found
        assert secret[2:14] not in found
        assert found.isprintable()
    assert replies.redacted("https://user:pa55@host/x") == "https://***@host/x"
    assert replies.redacted("Authorization: Bearer abc.def") == "Authorization: Bearer ***"
