"""What a chat server said, and what it says that costs: nothing in it is taken on trust.

Any JSON may come back, or none. A text is an answer only where it names one choice, whatever form
it was asked for in; a count of tokens is believed only between the words of the text and what the
request allowed, else the most counts; what a server echoes of a key is never passed on.
"""

import base64
import json
import math
import os
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEY = "OPENAI_API_KEY"
TEXT = 2000  # characters of an answer that are kept
FIELD = "answer"  # of the JSON object that holds a choice
LISTED = 20  # tokens with their probability, which is the most that OpenAI lists
_CUT = ("length", "content_filter")  # finish reasons of a text that does not end by itself
_QUOTES = "\"'`*_«»„“”‚‘’‹›「」『』《》〈〉【】()[]{}"
_STOPS = ".。．｡!！,，、;；:：…"
_THOUGHTS = "(?:think|thinking|thought|reasoning)"
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\ufe0e\ufe0f]")


@dataclass(frozen=True)
class Reply:
    """A completion, as far as it can be believed.

    choice: index of the choice that it names, or None; text: what was said, or why nothing was
    read, written: tokens; cached: those of `read` that the server says it had read before;
    reasoning: those of `written` that it says it only thought
    """

    choice: int | None
    text: str
    read: int
    written: int
    cached: int = 0
    reasoning: int = 0


def wanted(form: str, allowed: Sequence[str]) -> dict[str, Any]:
    """What a request holds so that an answer comes in this form: a choice of those `allowed`.

    form: "schema", "logprobs" or "text"
    """
    if form == "logprobs":
        return {"logprobs": True, "top_logprobs": LISTED}
    if form == "text":
        return {}
    answer = {"type": "string", "enum": [c.strip() for c in allowed]}
    schema = {
        "type": "object",
        "properties": {FIELD: answer},
        "required": [FIELD],
        "additionalProperties": False,
    }
    named = {"name": FIELD, "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def parse(text: str, allowed: Sequence[str], *, cut: bool = False) -> int | None:
    """The index of the choice that `text` is; else None.

    As it stands; else but for case, width, and the way accents and Hangul are encoded; else but
    for quotes, stars and full stops around it: the first of these that fits one choice alone. The
    text counts as a whole, or its first line where no other line names another choice. Thoughts
    in front are left out. Not the choice it contains: "not positive" is no answer.

    cut: the text may go on where it ends, so one that begins another choice is no answer
    """
    said = _thoughtless(text)
    if said is None:
        return None
    whole = _choice(said, allowed, cut)
    if whole is not None:
        return whole
    plain = {c.strip() for c in allowed}
    lines = [line for line in said.splitlines() if _bare(line) or line.strip() in plain]
    named = [_choice(line, allowed, cut and line is lines[-1]) for line in lines]
    others = {c for c in named[1:] if c is not None}
    return named[0] if named and others <= {named[0]} else None


def _choice(text: str, allowed: Sequence[str], cut: bool) -> int | None:
    levels: list[Callable[[str], str]] = [str, str.strip, _same, _bare]
    for form in levels:
        mine = form(text)
        plain = [form(c) for c in allowed]
        if mine and mine in plain:
            if plain.count(mine) > 1:
                return None  # nobody can tell which; a looser form could not either
            begun = [c for c in map(_bare, allowed) if c != _bare(text)]
            if cut and any(c.startswith(_bare(text)) for c in begun):
                return None
            return plain.index(mine)
    return None


def _thoughtless(text: str) -> str | None:
    """What follows the thoughts; None where they never end."""
    said = re.split(rf"</{_THOUGHTS}>", text)[-1]
    return None if re.match(rf"\s*<{_THOUGHTS}>", said) else said


def _same(text: str) -> str:
    """One form for all ways to encode a text, whatever its case and width."""
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text).casefold()).strip()


def _bare(text: str) -> str:
    """Without what is around a word: quotes and stars, brackets, and the stops behind it."""
    return _same(text).strip(_QUOTES + " \t\n").rstrip(_STOPS + _QUOTES + " \t\n")


def _in_json(text: str, allowed: Sequence[str]) -> int | None:
    """The choice in the JSON object that was asked for; None where the text is no such object."""
    said = (_thoughtless(text) or "").strip()
    if fenced := re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", said, re.DOTALL):
        said = fenced[1]
    found = loads(said.encode("utf-8", "replace"))
    answer = found.get(FIELD) if isinstance(found, dict) else None
    return parse(answer, allowed) if isinstance(answer, str) else None


def _likeliest(logprobs: Any, allowed: Sequence[str]) -> int | None:
    """The choice that most of the probability at the first token of the answer begins.

    None where the listed tokens do not tell the choices apart, or something else is likelier.
    """
    places = _object(logprobs).get("content")
    for place in places[:100] if isinstance(places, list) else ():
        if _text(_object(place).get("token")).strip():
            break
    else:
        return None
    listed = _object(place).get("top_logprobs")
    alike = len({_same(c) for c in allowed}) < len(allowed)
    plain: Callable[[str], str] = str.strip if alike else _same
    # A token once, however often a server lists it; where it may begin two choices it is neither's.
    found = {
        _text(_object(other).get("token")): _object(other).get("logprob")
        for other in (listed[: 5 * LISTED] if isinstance(listed, list) else ())
    }
    shares, rest = [0.0] * len(allowed), 0.0
    for token, logp in found.items():
        if isinstance(logp, bool) or not isinstance(logp, int | float) or not -1e9 < logp < 1e-3:
            continue
        said = plain(token)
        begun = [i for i, c in enumerate(allowed) if said and plain(c).startswith(said)]
        if len(begun) == 1:
            shares[begun[0]] += math.exp(logp)
        else:
            rest += math.exp(logp)
    best = max(range(len(allowed)), key=shares.__getitem__)
    return best if shares[best] > sum(shares) - shares[best] + rest else None


def completion(
    body: Mapping[str, Any],
    allowed: Sequence[str],
    most_read: int,
    most_written: int,
    least_read: int = 1,
    form: str = "text",
) -> Reply:
    """What a chat completion, any JSON object, says and how many tokens it counts.

    least_read:  tokens that the prompt takes at least
    most_read, most_written: what the request can have cost. Counts that are missing or impossible
        are replaced by these; larger ones are handed on, for the caller to stop at
    form:        what was asked for; who answers in plain words nevertheless is read as well
    """
    choices = body.get("choices")
    first = _object(choices[0] if isinstance(choices, list) and choices else None)
    message = _object(first.get("message")) or first
    text = _text(message.get("content")) or _text(message.get("text"))
    cut = first.get("finish_reason") in _CUT
    choice = _likeliest(first.get("logprobs"), allowed) if form == "logprobs" else None
    if choice is None:
        choice = parse(text, allowed, cut=cut)
    if choice is None and form == "schema":
        choice = _in_json(text, allowed)
    usage = _object(body.get("usage"))
    read = _count(usage.get("prompt_tokens"), least_read) or most_read
    written = _count(usage.get("completion_tokens"), least(text)) or most_written
    total = _count(usage.get("total_tokens"))
    reasoning = _count(_object(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    # Some leave thoughts out of what they say they wrote. The total has them, where there is one.
    if reasoning > written:
        written += reasoning
    elif not total:
        written = max(written, min(written + reasoning, most_written))
    written = max(written, total - read)
    prompt = _object(usage.get("prompt_tokens_details"))
    cached = _count(prompt.get("cached_tokens")) or _count(usage.get("prompt_cache_hit_tokens"))
    if choice is None and not (_thoughtless(text) or "").strip():
        thought = reasoning or text or _text(message.get("reasoning_content"))
        text = text or _text(message.get("refusal")) or _text(body.get("error"))
        if thought and cut:
            text = f"[all {written} tokens went to thoughts: more with --answer-tokens] {text}"
    if choice is None and cut:
        text = f"{text[:TEXT]} [cut off: {first['finish_reason']}]"
    return Reply(choice, text, read, written, min(cached, read), min(reasoning, written))


def least(text: str) -> int:
    """Tokens that a text takes at least: none of them spans two words."""
    return max(1, len(re.findall(r"[^ \t\r\n\f\v]+", text)))


def _object(value: Any) -> dict[str, Any]:
    """`value` where it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def _text(content: Any) -> str:
    """A text, or a list of parts that hold one."""
    if isinstance(content, list):
        return "".join(_text(part) for part in content[:100])
    if isinstance(content, dict):
        found = content.get("text", content.get("message"))
        return found if isinstance(found, str) else ""
    return content if isinstance(content, str) else ""


def _count(value: Any, least: int = 1) -> int:
    """A number of tokens, `least` of them or more, else 0: which nothing read or written takes."""
    sound = isinstance(value, int) and not isinstance(value, bool) and value >= least
    return value if sound else 0


def loads(data: bytes) -> Any:
    """The JSON of a body, bytes that are no text replaced; None where it is none."""
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def redacted(text: str) -> str:
    """`text` for a person's eyes: a line, without the key in any of its spellings, or passwords."""
    secret = os.environ.get(KEY, "").strip()
    if secret:
        spellings = {
            secret,
            json.dumps(secret)[1:-1],
            repr(secret)[1:-1],
            urllib.parse.quote(secret, safe=""),
            base64.b64encode(secret.encode("utf-8", "replace")).decode(),
        }
        for spelling in sorted(spellings, key=len, reverse=True):
            text = text.replace(spelling, "***")
        for start in range(len(secret) - 11):  # a part that is long enough to matter
            text = text.replace(secret[start : start + 12], "***")
    text = re.sub(r"://[^/\s@]*@", "://***@", text)
    text = re.sub(r"(?i)\bbearer\s+[^\s\"'*]+", "Bearer ***", text)
    return "".join(c if c.isprintable() else " " for c in text)


def wishes(error: str, sent: Mapping[str, Any]) -> set[str]:
    """What the server's words about a request that it refused ask us to change, of what we can.

    "completion": `max_completion_tokens`, not `max_tokens`; "no_system"; "no_temperature";
    "no_schema", "no_logprobs": an answer in another form
    """
    said = error.casefold()
    schemas = r"response_?format|schema|structured|guided|grammar"
    asks = {
        "completion": "max_completion_tokens" in said and "max_tokens" in sent,
        "no_system": bool(re.search(r"\b(system|roles?)\b", said))
        and bool(re.search(r"support|allow|invalid|unexpected|must alternate|only", said))
        and any(m["role"] == "system" for m in sent["messages"]),
        "no_temperature": "temperature" in said
        and bool(re.search(r"support|allow|invalid|deprecat|unknown|unrecogni|only", said))
        and "temperature" in sent,
        "no_schema": "response_format" in sent and bool(re.search(schemas, said)),
        "no_logprobs": "logprobs" in sent and "logprob" in said,
    }
    return {name for name, asked in asks.items() if asked}
