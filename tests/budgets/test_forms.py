"""The form of an answer: by a JSON schema, by the probabilities of first tokens, or as text."""

import json
import math

import chat_server
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.budgets import labels, replies
from frugal.budgets.endpoint import Endpoint
from frugal.errors import FrugalError

MOOD = (" negative", " positive")


def said(text, **more):
    return {"choices": [{"message": {"content": text}, **more}]}


def first_token(**shares):
    """The logprobs of an answer whose first token has these probabilities."""
    every = [{"token": t, "logprob": math.log(p)} for t, p in shares.items()]
    return {"content": [{"token": "\n", "top_logprobs": []}, {**every[0], "top_logprobs": every}]}


def read(body, choices=MOOD, form="schema"):
    return replies.completion(body, choices, 100, 20, form=form).choice


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ('{"answer": "positive"}', 1),
        ('{\n  "answer": " Negative."\n}', 0),
        ('```json\n{"answer": "positive"}\n```', 1),
        ('<think>{"answer": "negative"}</think>{"answer": "positive"}', 1),
        ("positive", 1),  # it has not heeded the schema
        ('{"answer": "neutral"}', None),
        ('{"answer": ["positive"]}', None),
        ('{"label": "positive"}', None),
        ('["positive"]', 1),  # a word in quotes and brackets
        ('{"answer": "positive"', None),
        ('{"answer": "not positive"}', None),
        ('The answer is {"answer": "positive"}', None),
        ("[" * 100_000, None),
    ],
)
def test_a_choice_in_json_is_read_where_json_was_asked_for(text, choice):
    assert read(said(text)) == choice
    plain = text if choice is not None and "{" not in text else None
    assert read(said(text), form="text") == (choice if plain else None)


@given(
    st.lists(st.text(min_size=1), min_size=2, max_size=4, unique_by=str.strip).filter(
        lambda found: all(c.strip() and not c.lstrip().startswith("<") for c in found)
    )
)
@settings(max_examples=40, deadline=None)
def test_every_choice_that_a_schema_allows_is_its_own_answer_and_fits(choices):
    schema = replies.wanted("schema", choices)["response_format"]["json_schema"]["schema"]
    source = Endpoint("m", 0.5, 1.5)
    asked = labels.Example(prompt="Which?", choices=tuple(choices), label=0)
    for i, choice in enumerate(schema["properties"]["answer"]["enum"]):
        answer = json.dumps({"answer": choice})
        assert read(said(answer), choices) == i
        assert len(answer) <= source._answer_tokens(asked)  # a token is a byte, at most


@pytest.mark.parametrize(
    ("shares", "choices", "choice"),
    [
        ({"pos": 0.6, "neg": 0.3}, MOOD, 1),
        ({" Pos": 0.3, "pos": 0.3, "negative": 0.35}, MOOD, 1),
        ({"neg": 0.4, "I": 0.5}, MOOD, None),  # something else is likelier
        ({"I": 0.5, "neg": 0.6}, MOOD, 0),
        ({"ne": 0.9, "neg": 0.05}, (" negative", " neutral"), None),  # may begin either
        ({"ne": 0.3, "neg": 0.6}, (" negative", " neutral"), 0),
        ({"US": 0.7, "us": 0.2}, (" US", " us"), 0),
        ({"<think>": 0.99, "pos": 0.01}, MOOD, None),
        ({"positively": 0.9}, MOOD, None),
    ],
)
def test_the_likeliest_choice_is_read_off_the_first_token(shares, choices, choice):
    body = said("Well.", logprobs=first_token(**shares))
    assert read(body, choices, "logprobs") == choice
    assert read(body, choices, "text") is None  # nobody asked for it
    named = said(choices[0], logprobs=first_token(**shares))
    assert read(named, choices, "logprobs") == (0 if choice is None else choice)


@pytest.mark.parametrize(
    "logprobs",
    [
        *(None, [], {}, {"content": None}, {"content": [None, 5]}, {"content": [{"token": "a"}]}),
        {"content": [{"token": "pos", "top_logprobs": [{"token": "pos", "logprob": math.nan}]}]},
        {"content": [{"token": "pos", "top_logprobs": [{"token": "pos", "logprob": "0"}]}]},
        {"content": [{"token": "pos", "top_logprobs": [{"token": "pos", "logprob": 10**400}]}]},
        {"content": [{"token": "pos", "top_logprobs": [{"token": ["pos"], "logprob": True}]}]},
    ],
)
def test_probabilities_of_every_shape_leave_the_text_to_be_read(logprobs):
    assert read(said("negative", logprobs=logprobs), form="logprobs") == 0
    assert read(said("well", logprobs=logprobs), form="logprobs") is None


@pytest.mark.parametrize("form", ["auto", "schema", "logprobs", "text"])
@pytest.mark.parametrize("offers", [(), ("response_format", "logprobs")])
def test_a_server_is_read_in_every_form_whatever_it_offers(
    tmp_path, examples, endpoint, form, offers
):
    source, meter = endpoint(lies={"offers": offers}, form=form)
    planned = labels.quote(source, examples)
    bought = labels.buy(source, examples, tmp_path, cap_usd=planned.most_usd)
    for example, choice in zip(examples, bought.labels, strict=True):
        assert example.choices[choice].strip() == chat_server.answer_to(example.prompt)
    sent = {"schema" if "response_format" in b else "plain" for b in meter.requests}
    assert sent == {"schema" if form in ("auto", "schema") else "plain"}
    assert {"logprobs" in b for b in meter.requests} == {form == "logprobs"}
    assert bought.spent_usd == pytest.approx(meter.usd(**chat_server.PRICE))
    assert (len(meter.requests), bought.malformed) == (20, 0)


@pytest.mark.parametrize(
    ("form", "refuses", "part"),
    [
        ("auto", ("response_format",), "response_format"),
        ("schema", ("response_format", "temperature", "max_tokens"), "response_format"),
        ("logprobs", ("logprobs",), "logprobs"),
    ],
)
def test_a_form_that_is_refused_is_asked_for_once(
    tmp_path, examples, endpoint, form, refuses, part
):
    source, meter = endpoint(lies={"refuses": refuses}, form=form, batch=4)
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert len(meter.requests) == 20 + len(refuses)
    assert [part in b for b in meter.requests[len(refuses) :]] == [False] * 20
    assert (bought.lost_usd, bought.malformed) == (0, 0)


def test_a_server_that_does_not_say_what_it_refuses_is_asked_for_text(tmp_path, examples, endpoint):
    source, meter = endpoint(lies={"refuses": ("vague",)}, batch=4)
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert ["response_format" in b for b in meter.requests] == [True] + [False] * 20
    first = examples[0]
    assert bought.lost_usd == pytest.approx(source.most_usd(first))  # it may be billed
    named, _ = endpoint(lies={"refuses": ("vague",)}, form="schema")
    with pytest.raises(FrugalError, match="HTTP 400"):
        labels.buy(named, examples, tmp_path / "named", cap_usd=50)


def test_a_schema_whose_first_answer_cannot_be_read_is_dropped(tmp_path, examples, endpoint):
    source, meter = endpoint({0: "malformed"}, batch=2)
    bought = labels.buy(source, examples, tmp_path, cap_usd=50)
    assert None not in bought.labels
    assert ["response_format" in b for b in meter.requests] == [True] + [False] * 20
    limits = {b["messages"][-1]["content"]: b["max_tokens"] for b in meter.requests[1:]}
    assert limits == {e.prompt: max(map(len, e.choices)) + 8 for e in examples}
    kept, meter = endpoint({3: "malformed"}, batch=2)
    labels.buy(kept, examples, tmp_path / "kept", cap_usd=50)
    assert ["response_format" in b for b in meter.requests] == [True] * 20 + [False]


def test_forms_are_named_and_a_named_one_is_another_source(tmp_path, examples, endpoint):
    with pytest.raises(FrugalError, match=r"form of an answer 'schemas'.*did you mean 'schema'"):
        Endpoint("m", 1, 1, form="schemas")
    source, _ = endpoint()
    labels.buy(source, examples[:2], tmp_path, cap_usd=50)
    other = Endpoint(source.model, 0.5, 1.5, source.base_url, form="logprobs")
    with pytest.raises(FrugalError, match="another source or price"):
        labels.buy(other, examples[:4], tmp_path, cap_usd=50)
