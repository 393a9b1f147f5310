"""Label sources: people at a price, a local model by rank classification, an LLM behind an API."""

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from frugal.budgets.labels import Answer
from frugal.costs import check
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import choices, icl, packing
from frugal.fewshot.tasks import Example

KEY = "OPENAI_API_KEY"
OVERHEAD_TOKENS = 256  # what a server's chat template may add to the messages
BYTES_PER_TOKEN = 4  # of English text, for what an answer is expected to cost


@dataclass(frozen=True)
class HumanPool:
    """People who give the task's own labels, at `usd` a label (`costs.prices` lists some)."""

    usd: float
    name: str = "people"
    batch: int = 64
    remote: bool = False

    def __post_init__(self) -> None:
        if check.number("usd", self.usd) < 0:
            raise FrugalError(f"usd must not be negative, but is {self.usd!r}")

    def identity(self) -> Mapping[str, Any]:
        return {"people": self.name, "usd": self.usd}

    def ready(self) -> None:
        pass

    def expected_usd(self, example: Example) -> float:
        return self.usd

    most_usd = expected_usd

    def ask(self, examples: Sequence[Example], attempt: int) -> Iterator[Answer]:
        for example in examples:
            yield Answer(example.label, self.usd, example.choices[example.label])


@dataclass(frozen=True)
class LocalModel:
    """A backbone here, which answers with its best-ranked choice: prompted, or a tuned teacher.

    shots: solved examples in front of every prompt; what is attached to the model is its own
    usd_per_1k_tokens: for every token of prompt and shots, as an API bills them, and one answered
    """

    backbone: Backbone
    usd_per_1k_tokens: float
    shots: tuple[Example, ...] = ()
    batch: int = 64
    remote: bool = False

    @property
    def name(self) -> str:
        return self.backbone.name

    def identity(self) -> Mapping[str, Any]:
        tuned = getattr(self.backbone.model, "_frugal_tuned", None)
        digest = hashlib.sha256()
        for place, vector in tuned.named_parameters() if tuned else ():
            digest.update(place.encode() + vector.detach().float().cpu().numpy().tobytes())
        return {
            "model": self.name,
            "tuned": digest.hexdigest() if tuned else None,
            "shots": [[s.prompt, s.choices[s.label]] for s in self.shots],
            "usd_per_1k_tokens": self.usd_per_1k_tokens,
        }

    def ready(self) -> None:
        choices.check(self.backbone)

    def tokens(self, example: Example) -> int:
        """Tokens of the prompt, shots included, and one for the answer."""
        (encoded,) = packing.encode(self.backbone, icl.prompted([example], self.shots))
        return encoded.start + 1

    def expected_usd(self, example: Example) -> float:
        return self.tokens(example) * self.usd_per_1k_tokens / 1000

    most_usd = expected_usd

    def ask(self, examples: Sequence[Example], attempt: int) -> Iterator[Answer]:
        scores = choices.score(self.backbone, icl.prompted(examples, self.shots))
        for example, choice in zip(examples, scores.predictions.tolist(), strict=True):
            tokens = self.tokens(example)
            usd = tokens * self.usd_per_1k_tokens / 1000
            yield Answer(choice, usd, example.choices[choice], tokens)


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible `/chat/completions`, zero-shot or with solved examples.

    usd_per_1k_in, usd_per_1k_out: USD for 1,000 tokens of prompt, and of answer
    base_url: of the server; else the environment's OPENAI_BASE_URL, else OpenAI's own
    batch:    requests in flight at a time
    seconds:  to wait for an answer; one that takes longer is lost, and counted as paid
    refusals: how often in a row the server may refuse a request (429, 5xx) before we stop

    The key is read from the environment variable OPENAI_API_KEY, where the client library looks
    too, and written nowhere. Needs the extra `llm`.
    """

    model: str
    usd_per_1k_in: float
    usd_per_1k_out: float
    base_url: str | None = None
    shots: tuple[Example, ...] = ()
    batch: int = 4
    seconds: float = 60.0
    refusals: int = 6
    remote: bool = True

    @property
    def name(self) -> str:
        return self.model

    def identity(self) -> Mapping[str, Any]:
        return {
            "model": self.model,
            "url": self.base_url or os.environ.get("OPENAI_BASE_URL"),
            "shots": [[s.prompt, s.choices[s.label]] for s in self.shots],
            "usd_per_1k": [self.usd_per_1k_in, self.usd_per_1k_out],
        }

    def ready(self) -> None:
        _ = self._client  # the package and the key are there

    def messages(self, example: Example) -> list[dict[str, str]]:
        """The chat: what is allowed as an answer, the solved examples, the prompt."""
        allowed = " | ".join(c.strip() for c in example.choices)
        rule = f"Answer with exactly one of these, and nothing else: {allowed}"
        turns = [("system", rule)]
        for shot in self.shots:
            turns += [("user", shot.prompt), ("assistant", shot.choices[shot.label].strip())]
        return [{"role": r, "content": c} for r, c in [*turns, ("user", example.prompt)]]

    def _usd(self, read: float, written: float) -> float:
        return (read * self.usd_per_1k_in + written * self.usd_per_1k_out) / 1000

    def _answer_tokens(self, example: Example) -> int:
        return max(len(c.encode()) for c in example.choices) + 8

    def _bytes(self, example: Example) -> int:
        return sum(len(m["content"].encode()) for m in self.messages(example))

    def expected_usd(self, example: Example) -> float:
        read = self._bytes(example) / BYTES_PER_TOKEN
        written = max(len(c.encode()) for c in example.choices) / BYTES_PER_TOKEN + 1
        return self._usd(read, written)

    def most_usd(self, example: Example) -> float:
        """A token is at least a byte, and no answer is longer than the request allows."""
        return self._usd(self._bytes(example) + OVERHEAD_TOKENS, self._answer_tokens(example))

    def ask(self, examples: Sequence[Example], attempt: int) -> Iterator[Answer]:
        with ThreadPoolExecutor(max(1, self.batch)) as pool:
            yield from pool.map(self._one, examples, itertools.repeat(attempt))

    @cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise FrugalError("an Endpoint needs the package openai: the extra `llm`") from error
        own = self.base_url or os.environ.get("OPENAI_BASE_URL")
        key = os.environ.get(KEY) or ("none" if own else None)
        if key is None:
            raise FrugalError(f"{KEY} is not set; a key is read from the environment alone")
        # It would repeat a request that timed out, which may have been billed: we count instead.
        return openai.OpenAI(
            api_key=key, base_url=self.base_url, max_retries=0, timeout=self.seconds
        )

    def _one(self, example: Example, attempt: int) -> Answer:
        import openai
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        again = (openai.RateLimitError, openai.InternalServerError)
        try:
            for once in Retrying(
                retry=retry_if_exception_type(again),
                stop=stop_after_attempt(self.refusals),
                wait=_pause,
                reraise=True,
            ):
                with once:
                    reply = self._client.chat.completions.create(
                        model=self.model,
                        messages=self.messages(example),
                        max_tokens=self._answer_tokens(example),
                        # The same question at temperature 0 would get the same bad answer.
                        temperature=float(attempt > 0),
                    )
        except openai.APIStatusError as error:
            what = f"HTTP {error.status_code} to {example.prompt[:40]!r}: {error}"
            return Answer(None, 0, _without_key(what), 0, "refused")
        except (openai.APIError, ValueError) as error:  # a timeout, a broken line, no JSON
            if _never_sent(error):
                return Answer(None, 0, _without_key(f"no connection: {error}"), 0, "refused")
            return Answer(None, self.most_usd(example), _without_key(str(error)), 0, "lost")
        if not getattr(reply, "choices", None):  # a page of some proxy, or an empty completion
            return Answer(None, self.most_usd(example), "no completion came back", 0, "lost")
        text = reply.choices[0].message.content or ""
        if (usage := reply.usage) is None:
            return Answer(parse(text, example.choices), self.most_usd(example), text)
        usd = self._usd(usage.prompt_tokens, usage.completion_tokens)
        return Answer(parse(text, example.choices), usd, text, usage.total_tokens)


def parse(text: str, allowed: Sequence[str]) -> int | None:
    """The index of the choice that `text` is, but for case, quotes and full stops; else None.

    Not the choice it contains: "not positive" is no answer.
    """
    plain = [_plain(c) for c in allowed]
    first = _plain(text.strip().partition("\n")[0])
    return plain.index(first) if plain.count(first) == 1 else None


def _plain(text: str) -> str:
    return re.sub(r"^[\s\"'`*]+|[\s\"'`*.!]+$", "", text).casefold()


def _pause(state: Any) -> float:
    """Seconds before a refused request is repeated: what the server asks for, else 1, 2, 4, …"""
    headers = state.outcome.exception().response.headers
    try:
        return min(60.0, max(0.0, float(headers["retry-after"])))
    except (KeyError, ValueError):
        return float(min(30, 2 ** (state.attempt_number - 1)))


def _never_sent(error: Exception) -> bool:
    """Whether the connection did not come about, so that nothing can have been billed."""
    return type(error.__cause__).__name__ in (
        "ConnectError",
        "ConnectTimeout",
        "UnsupportedProtocol",
    )


def _without_key(text: str) -> str:
    secret = os.environ.get(KEY)
    return text.replace(secret, "***") if secret else text
