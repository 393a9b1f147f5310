"""What a chat server said, and what it says that costs: nothing in it is taken on trust.

Any JSON may come back, or none. A text is an answer only where it names one choice; a count of
tokens is believed only between one and what the request allowed, else the most counts; what a
server echoes of a key is never passed on.
"""

import base64
import json
import os
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEY = "OPENAI_API_KEY"
TEXT = 2000  # characters of an answer that are kept
_CUT = ("length", "content_filter")  # finish reasons of a text that does not end by itself
_QUOTES = "\"'`*_«»„“”‚‘’‹›「」『』《》〈〉【】()[]{}"
_STOPS = ".。．｡!！,，、;；:：…"
_THOUGHTS = "(?:think|thinking|thought|reasoning)"
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\ufe0e\ufe0f]")


@dataclass(frozen=True)
class Reply:
    """A completion, as far as it can be believed.

    choice: index of the choice that it names, or None; text: what was said, or why nothing was
    read, written: tokens; cached: those of `read` that the server says it had read before
    """

    choice: int | None
    text: str
    read: int
    written: int
    cached: int = 0


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


def completion(
    body: Mapping[str, Any], allowed: Sequence[str], most_read: int, most_written: int
) -> Reply:
    """What a chat completion, any JSON object, says and how many tokens it counts.

    most_read, most_written: what the request can have cost. Counts that are missing or impossible
    are replaced by these; larger ones are handed on, for the caller to stop at.
    """
    choices = body.get("choices")
    first = _object(choices[0] if isinstance(choices, list) and choices else None)
    message = _object(first.get("message")) or first
    text = _text(message.get("content")) or _text(message.get("text"))
    cut = first.get("finish_reason") in _CUT
    choice = parse(text, allowed, cut=cut)
    if not text:
        text = _text(message.get("refusal")) or _text(body.get("error"))
    if choice is None and cut:
        text = f"{text[:TEXT]} [cut off: {first['finish_reason']}]"
    usage = _object(body.get("usage"))
    counted = _count(usage.get("prompt_tokens"))
    read, written = counted or most_read, _count(usage.get("completion_tokens")) or most_written
    if counted:  # some leave thoughts out of what they say they wrote
        written = max(written, _count(usage.get("total_tokens")) - counted)
    details = _object(usage.get("prompt_tokens_details"))
    cached = _count(details.get("cached_tokens")) or _count(usage.get("prompt_cache_hit_tokens"))
    return Reply(choice, text, read, written, min(cached, read))


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


def _count(value: Any) -> int:
    """A positive number of tokens, else 0: which nothing that was read or written takes."""
    sound = isinstance(value, int) and not isinstance(value, bool) and value > 0
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

    "completion": `max_completion_tokens`, not `max_tokens`; "no_system"; "no_temperature"
    """
    said = error.casefold()
    asks = {
        "completion": "max_completion_tokens" in said and "max_tokens" in sent,
        "no_system": bool(re.search(r"\b(system|roles?)\b", said))
        and bool(re.search(r"support|allow|invalid|unexpected|must alternate|only", said))
        and any(m["role"] == "system" for m in sent["messages"]),
        "no_temperature": "temperature" in said
        and bool(re.search(r"support|allow|invalid|deprecat|unknown|unrecogni|only", said))
        and "temperature" in sent,
    }
    return {name for name, asked in asks.items() if asked}
