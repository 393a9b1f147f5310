"""Labels from a model behind an OpenAI-compatible server, which is trusted in nothing.

What it says is read by `replies`; every fault of the line or the server is an answer of its own
kind, with the most that it can have cost.
"""

import asyncio
import json
import math
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import httpx

from frugal.budgets import transport
from frugal.budgets.batches import Jobs
from frugal.budgets.replies import (
    FIELD,
    KEY,
    TEXT,
    completion,
    least,
    loads,
    redacted,
    wanted,
    wishes,
)
from frugal.budgets.source import Answer, Answers, Source
from frugal.costs import check
from frugal.errors import FrugalError, unknown
from frugal.tasks.templates import Example

FORMS = ("auto", "schema", "logprobs", "text")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
OVERHEAD_TOKENS = 256  # what a server's chat template may add to the messages
TURN_TOKENS = 16  # and to each of them
LISTED_BYTES = 4096  # of an answer, for each token whose alternatives are listed with it
UNBILLED = (401, 402, 403, 404, 405, 429)  # refused before any work is done
UNREAD = (400, 413, 422)  # something is wrong with the request; reading it may have been billed
REFUSALS = 6  # of a request (429) in a row, and we stop
BYTES_PER_TOKEN = 4  # of English text, for what an answer is expected to cost


@dataclass(frozen=True)
class Endpoint(Source):
    """A model behind an OpenAI-compatible `/chat/completions`, zero-shot or with solved examples.

    usd_per_1k_in, usd_per_1k_out: USD for 1,000 tokens of prompt, and of answer
    base_url: of the server; else the environment's OPENAI_BASE_URL, else OpenAI's own
    batch:    requests in flight at a time
    seconds:  from sending a request to the end of its answer; one that takes longer is lost, and
        counted as paid
    answer_tokens: that an answer may have, thoughts included; else what the longest choice takes
    form:     in which a choice is asked for: by a JSON "schema", by the "logprobs" of the tokens
        that begin the choices, or as "text", which is what a server gets that refuses the others.
        "auto" is a schema, until one is refused or the first answer to one cannot be read; what is
        asked again is asked as text
    usd_per_1k_cached: for 1,000 tokens of prompt that the server says it had read before; else as
        usd_per_1k_in. An answer can cost the whole price, whatever is in the cache
    batch_share: of these prices, what a request costs in a batch (see `batches`), as 0.5 at OpenAI;
        None: every request is sent on its own
    usd_per_1k_write: for 1,000 tokens that its cache takes in, where that is dearer than reading
        them. Servers do not say which these are: all that were not in the cache
    effort: sent as `reasoning_effort`, to a model that thinks first; one that knows no such word
        refuses the request, and that is said

    The key is read from the environment variable OPENAI_API_KEY, and written nowhere.
    """

    model: str
    usd_per_1k_in: float
    usd_per_1k_out: float
    base_url: str | None = None
    shots: tuple[Example, ...] = ()
    batch: int = 4
    seconds: float = 60.0
    answer_tokens: int | None = None
    form: str = "auto"
    usd_per_1k_cached: float | None = None
    usd_per_1k_write: float | None = None
    batch_share: float | None = None
    effort: str | None = None
    # What the server has refused so far, and is not sent again (see `wishes`); and "answered",
    # once it has: what it refuses of a request after that is that request's fault; and "schema",
    # once it has named a choice in one.
    _manners: set[str] = field(default_factory=set, repr=False, compare=False)

    def __post_init__(self) -> None:
        check.amount("usd (of 1,000 tokens read)", self.usd_per_1k_in)
        check.amount("usd_out (of 1,000 tokens written)", self.usd_per_1k_out)
        check.whole("batch", self.batch, least=1)
        check.number("seconds", self.seconds, above=0, most=86400)
        if self.answer_tokens is not None:
            check.whole("answer_tokens", self.answer_tokens, least=1)
        if self.form not in FORMS:
            raise unknown("form of an answer", self.form, FORMS)
        if self.effort is not None and self.effort not in EFFORTS:
            raise unknown("effort", self.effort, EFFORTS)
        if self.usd_per_1k_cached is not None:
            check.amount("usd_cached (of 1,000 tokens in the cache)", self.usd_per_1k_cached)
            if self.usd_per_1k_cached > self.usd_per_1k_in:
                raise FrugalError("usd_cached: more than usd, which is what tokens cost without it")
        if self.batch_share is not None:
            check.number("batch_share", check.amount("batch_share", self.batch_share), most=1)
        if self.usd_per_1k_write is not None:
            check.amount("usd_write (of 1,000 tokens that the cache takes)", self.usd_per_1k_write)

    remote = True

    @property
    def name(self) -> str:
        return self.model

    @property
    def batches(self) -> Jobs:
        return Jobs(self)

    @property
    def answered(self) -> bool:
        """Whether the server has answered a request: its form is known by then."""
        return "answered" in self._manners

    @property
    def hint(self) -> str:
        may = f"an answer may have {self.answer_tokens or 'as many tokens as a choice takes'}"
        return f"{may}: a model that thinks first needs more (--answer-tokens)"

    @cached_property
    def url(self) -> str:
        """The server's address; FrugalError for one that holds a secret, which would be kept."""
        url = self._server or "https://api.openai.com/v1"
        try:
            parts = httpx.URL(url)
        except httpx.InvalidURL:
            parts = httpx.URL("")
        if parts.userinfo or parts.query or parts.fragment:
            raise FrugalError(
                f"base_url: no user, password or query may be in it; the key is read from {KEY}"
            )
        if parts.scheme not in ("http", "https") or not parts.host:
            raise FrugalError(f"base_url: {redacted(url)!r} is no http(s) address")
        return url

    @property
    def _server(self) -> str | None:
        return self.base_url or os.environ.get("OPENAI_BASE_URL")

    def identity(self) -> Mapping[str, Any]:
        _ = self.url  # holds no secret
        usd = [self.usd_per_1k_in, self.usd_per_1k_out]
        more = {"cached": self.usd_per_1k_cached, "write": self.usd_per_1k_write}
        how = {"form": self.form, "effort": self.effort}
        return {
            "model": self.model,
            "url": self._server,
            "shots": [[s.prompt, s.choices[s.label]] for s in self.shots],
            "usd_per_1k": usd + [{k: v} for k, v in more.items() if v is not None],
            **{k: v for k, v in how.items() if v not in ("auto", None)},
        }

    def ready(self) -> None:
        _ = self.url, self.key

    @property
    def key(self) -> str:
        """Empty for a server of one's own that asks for none."""
        key = os.environ.get(KEY, "").strip()
        if not (key or self._server):
            raise FrugalError(f"{KEY} is not set; a key is read from the environment alone")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise FrugalError(f"{KEY}: holds characters that no key has")
        return key or "none"

    def messages(self, example: Example) -> list[dict[str, str]]:
        """The chat: what is allowed as an answer, the solved examples, the prompt.

        Raises FrugalError where two choices differ in the space around them alone.
        """
        said = [c.strip() for c in example.choices]
        if len(set(said)) < len(said):
            raise FrugalError(
                f"{self.model} cannot tell the choices of {example.prompt[:40]!r} apart: {said}"
            )
        rule = f"Answer with exactly one of these, and nothing else: {' | '.join(said)}"
        turns = [("system", rule)]
        for shot in self.shots:
            turns += [("user", shot.prompt), ("assistant", shot.choices[shot.label].strip())]
        turns.append(("user", example.prompt))
        if "no_system" in self._manners:
            (_, rule), (_, first), *others = turns
            turns = [("user", f"{rule}\n\n{first}"), *others]
        return [{"role": r, "content": c} for r, c in turns]

    def _usd(self, read: float, written: float, cached: float = 0) -> float:
        old = self.usd_per_1k_in if self.usd_per_1k_cached is None else self.usd_per_1k_cached
        new = max(self.usd_per_1k_in, self.usd_per_1k_write or 0)
        return ((read - cached) * new + cached * old + written * self.usd_per_1k_out) / 1000

    @property
    def _asked(self) -> str:
        """The form that is asked for first, and takes most."""
        return "schema" if self.form == "auto" else self.form

    def _answer_tokens(self, example: Example, form: str = "") -> int:
        """As bytes, which are no fewer: of the longest choice, as a text or in JSON."""
        around = len('{"": ""}' + FIELD) + 8 if (form or self._asked) == "schema" else 0
        spelled = (json.dumps(c) if around else c for c in example.choices)
        return self.answer_tokens or max(len(c.encode()) for c in spelled) + 8 + around

    def _most_read(self, example: Example) -> int:
        """A token is at least a byte, of the text or of the text as a tokenizer normalises it.

        The form of the answer is read too: by some servers as a part of the prompt.
        """
        turns = self.messages(example)
        text = "".join(m["content"] for m in turns)
        if self._asked == "schema":
            text += json.dumps(wanted("schema", example.choices), ensure_ascii=False)
        forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC", "NFKD")))
        return max(len(f.encode()) for f in forms) + OVERHEAD_TOKENS + TURN_TOKENS * len(turns)

    def expected_usd(self, example: Example) -> float:
        """Of a choice without thoughts; where tokens are allowed for those, as if all are used."""
        read = sum(len(m["content"].encode()) for m in self.messages(example)) / BYTES_PER_TOKEN
        longest = max(len(c.encode()) for c in example.choices)
        return self._usd(read, self.answer_tokens or longest / BYTES_PER_TOKEN + 1)

    def most_usd(self, example: Example) -> float:
        """Of the longest prompt its text can be, and the longest answer the request allows."""
        return self._usd(self._most_read(example), self._answer_tokens(example))

    def ask(self, examples: Sequence[Example], attempt: int) -> Answers:
        """Each answer as soon as it is there; those not waited for are given up, and cost."""
        return transport.arriving(lambda came: self._all(examples, attempt, came))

    async def _all(
        self, examples: Sequence[Example], attempt: int, came: Callable[[tuple[int, Answer]], None]
    ) -> None:
        async with transport.client(self.key, self.seconds) as client:
            held: list[tuple[int, Answer]] = []

            async def one(place: int, example: Example) -> None:
                answer = await self._one(client, example, attempt)
                if answer.state == "declined":
                    held.append((place, answer))
                else:
                    came((place, answer))

            pairs = list(enumerate(examples))
            first = 0 if self.answered else 1  # which finds out what it refuses
            for pair in pairs[:first]:
                await one(*pair)
            await asyncio.gather(*(one(*pair) for pair in pairs[first:]))
            for place, answer in held:
                # Who has answered nothing yet refuses us, not this one text.
                came((place, answer if self.answered else replace(answer, state="refused")))

    async def _one(self, client: httpx.AsyncClient, example: Example, attempt: int) -> Answer:
        """One answer; nothing that a server does is raised."""
        refused, url = 0, f"{self.url.rstrip('/')}/chat/completions"
        while True:
            request = self.request(example, attempt)
            listed = LISTED_BYTES * self._answer_tokens(example) if "logprobs" in request else 0
            try:
                got = await transport.call(
                    client, "POST", url, self.seconds, transport.MOST_BYTES + listed, json=request
                )
            except transport.NeverSent as error:
                return Answer(None, 0, str(error), 0, "refused")
            except transport.Lost as error:
                return Answer(None, self.most_usd(example), str(error), 0, "lost")
            if 200 <= got.status < 300:
                answer = self.judged(example, got.status, got.body)
                self._manners.add("answered")
                if "response_format" in request and "schema" not in self._manners:
                    fits = answer.choice is not None or self.form != "auto"
                    self._manners.add("schema" if fits else "no_schema")
                return answer
            if got.status not in UNBILLED:
                said = got.body.decode("utf-8", "replace")[:4000]
                self._manners.update(wishes(said, request))
            if got.status in UNREAD:
                if request != self.request(example, attempt):
                    continue  # its form was refused, and nobody read it: nothing is billed
                if self.form == "auto" and not self._manners & {"answered", "no_schema"}:
                    # Perhaps it was the schema, which is not sent again; perhaps it is billed.
                    self._manners.add("no_schema")
                    return replace(self.judged(example, got.status, got.body), state="lost")
            elif got.status == 429:
                refused += 1
                if refused < REFUSALS:
                    await asyncio.sleep(_pause(got.headers, refused))
                    continue
            elif got.status >= 400 and got.status not in UNBILLED:
                await asyncio.sleep(_pause(got.headers, 1))
            return self.judged(example, got.status, got.body)

    def request(self, example: Example, attempt: int) -> dict[str, Any]:
        """The body of a request, as far as is known by now in a form that the server takes."""
        limit = "max_completion_tokens" if "completion" in self._manners else "max_tokens"
        # The same question at temperature 0 would get the same bad answer.
        warm = {} if "no_temperature" in self._manners else {"temperature": float(attempt > 0)}
        form = "text" if self.form == "auto" and attempt else self._asked
        if f"no_{form}" in self._manners:
            form = "text"
        return {
            "model": self.model,
            "messages": self.messages(example),
            limit: self._answer_tokens(example, form),
            **warm,
            **({} if self.effort is None else {"reasoning_effort": self.effort}),
            **wanted(form, example.choices),
        }

    def judged(self, example: Example, status: int, body: bytes) -> Answer:
        """What the answer to a request is, and costs: no byte of it is trusted."""
        if 200 <= status < 300:
            return self._read(example, body)
        most = self.most_usd(example)
        said = redacted(body.decode("utf-8", "replace")[:4000])
        what = redacted(f"HTTP {status} to {example.prompt[:40]!r}: {said}")[:400]
        if status in UNBILLED or 300 <= status < 400:
            return Answer(None, 0, what, 0, "refused")
        # As a proxy says when it has waited for too long: the work may be done, and billed.
        return Answer(None, most, what, 0, "declined" if status in UNREAD else "lost")

    def _read(self, example: Example, body: bytes) -> Answer:
        most_read, most_written = self._most_read(example), self._answer_tokens(example)
        found = loads(body)
        if not isinstance(found, dict):
            said = redacted(body[:400].decode("utf-8", "replace"))
            return Answer(None, self.most_usd(example), f"no completion: {said}", 0, "lost")
        words = sum(least(m["content"]) for m in self.messages(example))
        reply = completion(found, example.choices, most_read, most_written, words, self._asked)
        text = redacted(reply.text[: 4 * TEXT])[:TEXT]
        try:
            usd = self._usd(reply.read, reply.written, reply.cached)
        except OverflowError:  # a count of hundreds of digits
            usd = math.inf
        most = most_read + most_written
        tokens, cached = min(reply.read + reply.written, most), min(reply.cached, most)
        reasoning = min(reply.reasoning, most_written)
        return Answer(reply.choice, usd, text, tokens, cached=cached, reasoning=reasoning)


def _pause(headers: Mapping[str, str], times: int) -> float:
    """Seconds before a refused request is repeated: what the server asks for, else 1, 2, 4, …"""
    try:
        return min(60.0, max(0.0, float(headers["retry-after"])))
    except (KeyError, ValueError):
        return float(min(30, 2 ** (times - 1)))
