"""Labels from a model behind an OpenAI-compatible server, which is trusted in nothing.

What it says is read by `replies`; every fault of the line or the server is an answer of its own
kind, with the most that it can have cost.
"""

import asyncio
import contextlib
import math
import os
import queue
import ssl
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import httpx

from frugal.budgets.labels import Answers, Source
from frugal.budgets.ledger import Answer
from frugal.budgets.replies import KEY, TEXT, completion, loads, redacted, wishes
from frugal.costs import check
from frugal.errors import FrugalError
from frugal.tasks.templates import Example

OVERHEAD_TOKENS = 256  # what a server's chat template may add to the messages
TURN_TOKENS = 16  # and to each of them
MOST_BYTES = 1 << 20  # of an answer; what is longer is none
UNBILLED = (401, 402, 403, 404, 405, 429)  # refused before any work is done
UNREAD = (400, 413, 422)  # something is wrong with the request; reading it may have been billed
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
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
    # What the server has refused so far, and is not sent again (see `wishes`); and "answered",
    # once it has: what it refuses of a request after that is that request's fault.
    _manners: set[str] = field(default_factory=set, repr=False, compare=False)

    def __post_init__(self) -> None:
        check.amount("usd (of 1,000 tokens read)", self.usd_per_1k_in)
        check.amount("usd_out (of 1,000 tokens written)", self.usd_per_1k_out)
        check.whole("batch", self.batch, least=1)
        check.number("seconds", self.seconds, above=0, most=86400)
        if self.answer_tokens is not None:
            check.whole("answer_tokens", self.answer_tokens, least=1)

    remote = True

    @property
    def name(self) -> str:
        return self.model

    @property
    def hint(self) -> str:
        return (
            f"an answer may have {self.answer_tokens or 'as many tokens as a choice takes'}: "
            "a model that thinks first needs more (--answer-tokens)"
        )

    @cached_property
    def _url(self) -> str:
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
        _ = self._url  # holds no secret
        return {
            "model": self.model,
            "url": self._server,
            "shots": [[s.prompt, s.choices[s.label]] for s in self.shots],
            "usd_per_1k": [self.usd_per_1k_in, self.usd_per_1k_out],
        }

    def ready(self) -> None:
        _ = self._url, self._key

    @property
    def _key(self) -> str:
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

    def _usd(self, read: float, written: float) -> float:
        return (read * self.usd_per_1k_in + written * self.usd_per_1k_out) / 1000

    def _answer_tokens(self, example: Example) -> int:
        return self.answer_tokens or max(len(c.encode()) for c in example.choices) + 8

    def _most_read(self, example: Example) -> int:
        """A token is at least a byte, of the text or of the text as a tokenizer normalises it."""
        turns = self.messages(example)
        text = "".join(m["content"] for m in turns)
        forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC", "NFKD")))
        return max(len(f.encode()) for f in forms) + OVERHEAD_TOKENS + TURN_TOKENS * len(turns)

    def expected_usd(self, example: Example) -> float:
        read = sum(len(m["content"].encode()) for m in self.messages(example)) / BYTES_PER_TOKEN
        written = max(len(c.encode()) for c in example.choices) / BYTES_PER_TOKEN + 1
        return self._usd(read, written)

    def most_usd(self, example: Example) -> float:
        """Of the longest prompt its text can be, and the longest answer the request allows."""
        return self._usd(self._most_read(example), self._answer_tokens(example))

    def ask(self, examples: Sequence[Example], attempt: int) -> Answers:
        """Each answer as soon as it is there; those not waited for are given up, and cost."""
        came: queue.SimpleQueue[tuple[int, Answer] | BaseException] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        everything = loop.create_task(self._all(examples, attempt, came.put))
        thread = threading.Thread(target=_run, args=(loop, everything, came.put), daemon=True)
        thread.start()
        waiting = len(examples)
        try:
            while waiting:
                # In a thread of its own nothing of the network can hold up an interrupt.
                found = came.get()
                if isinstance(found, BaseException):
                    raise found
                waiting -= 1
                yield found
        finally:
            if waiting:
                with contextlib.suppress(RuntimeError):  # it is closed: all is done
                    loop.call_soon_threadsafe(everything.cancel)
            thread.join(timeout=1)

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()  # takes longer than many an answer

    async def _all(
        self, examples: Sequence[Example], attempt: int, came: Callable[[tuple[int, Answer]], Any]
    ) -> None:
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        limits = httpx.Limits(max_connections=None)
        timeout = httpx.Timeout(None, connect=self.seconds / 2)
        async with httpx.AsyncClient(
            headers=headers, limits=limits, timeout=timeout, verify=self._trusted
        ) as client:
            held: list[tuple[int, Answer]] = []

            async def one(place: int, example: Example) -> None:
                answer = await self._one(client, example, attempt)
                if answer.state == "declined":
                    held.append((place, answer))
                else:
                    came((place, answer))

            await asyncio.gather(*(one(*pair) for pair in enumerate(examples)))
            for place, answer in held:
                # Who has answered nothing yet refuses us, not this one text.
                us = "answered" not in self._manners
                came((place, replace(answer, state="refused") if us else answer))

    async def _one(self, client: httpx.AsyncClient, example: Example, attempt: int) -> Answer:
        """One answer; nothing that a server does is raised."""
        most, refused = self.most_usd(example), 0
        while True:
            request = self._request(example, attempt)
            try:
                status, headers, body = await asyncio.wait_for(
                    self._post(client, request), self.seconds
                )
            except asyncio.TimeoutError:
                return Answer(None, most, f"no whole answer in {self.seconds:g} s", 0, "lost")
            except NEVER_SENT as error:
                return Answer(None, 0, redacted(f"no connection: {error}"), 0, "refused")
            except Exception as error:  # a broken line, in any of its ways
                return Answer(None, most, redacted(f"{type(error).__name__}: {error}"), 0, "lost")
            if 200 <= status < 300:
                self._manners.add("answered")
                return self._read(example, body)
            said = body.decode("utf-8", "replace")
            what = redacted(f"HTTP {status} to {example.prompt[:40]!r}: {said[:4000]}")[:400]
            if status not in UNBILLED:
                self._manners.update(wishes(said[:4000], request))
            if status in UNREAD and request != self._request(example, attempt):
                continue  # its form was refused, and nobody read it: nothing is billed
            if status == 429:
                refused += 1
                if refused < REFUSALS:
                    await asyncio.sleep(_pause(headers, refused))
                    continue
            if status in UNBILLED or 300 <= status < 400:
                return Answer(None, 0, what, 0, "refused")
            if status in UNREAD:
                return Answer(None, most, what, 0, "declined")
            # As a proxy says when it has waited for too long: the work may be done, and billed.
            await asyncio.sleep(_pause(headers, 1))
            return Answer(None, most, what, 0, "lost")

    def _request(self, example: Example, attempt: int) -> dict[str, Any]:
        limit = "max_completion_tokens" if "completion" in self._manners else "max_tokens"
        # The same question at temperature 0 would get the same bad answer.
        warm = {} if "no_temperature" in self._manners else {"temperature": float(attempt > 0)}
        tokens = self._answer_tokens(example)
        return {"model": self.model, "messages": self.messages(example), limit: tokens, **warm}

    async def _post(
        self, client: httpx.AsyncClient, request: dict[str, Any]
    ) -> tuple[int, Mapping[str, str], bytes]:
        url, body = f"{self._url.rstrip('/')}/chat/completions", b""
        async with client.stream("POST", url, json=request) as reply:
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise ValueError(f"an answer of more than {MOST_BYTES:,} bytes")
            return reply.status_code, reply.headers, body

    def _read(self, example: Example, body: bytes) -> Answer:
        """What a server's 200 says and costs; no byte of it is trusted."""
        read, written = self._most_read(example), self._answer_tokens(example)
        found = loads(body)
        if not isinstance(found, dict):
            said = redacted(body[:400].decode("utf-8", "replace"))
            return Answer(None, self._usd(read, written), f"no completion: {said}", 0, "lost")
        reply = completion(found, example.choices, read, written)
        text = redacted(reply.text[: 4 * TEXT])[:TEXT]
        try:
            usd = self._usd(reply.read, reply.written)
        except OverflowError:  # a count of hundreds of digits
            usd = math.inf
        most = read + written
        tokens, cached = min(reply.read + reply.written, most), min(reply.cached, most)
        return Answer(reply.choice, usd, text, tokens, cached=cached)


def _run(
    loop: asyncio.AbstractEventLoop,
    task: "asyncio.Task[None]",
    came: Callable[[BaseException], Any],
) -> None:
    """Work to the end, then close everything; a fault of ours ends the waiting too."""
    try:
        loop.run_until_complete(task)
    except BaseException as error:
        came(error)
    finally:
        loop.run_until_complete(_ended())
        loop.close()


async def _ended() -> None:
    """When all that was cancelled has ended, and its connections are closed."""
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_asyncgens()
    for transport in list(getattr(loop, "_transports", {}).values()):
        transport.abort()  # of a connection that was given up before httpx had it
    for _ in range(3):
        await asyncio.sleep(0)  # a transport closes in the loop's next turn


def _pause(headers: Mapping[str, str], times: int) -> float:
    """Seconds before a refused request is repeated: what the server asks for, else 1, 2, 4, …"""
    try:
        return min(60.0, max(0.0, float(headers["retry-after"])))
    except (KeyError, ValueError):
        return float(min(30, 2 ** (times - 1)))
