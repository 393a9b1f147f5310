"""Requests handed in together, by OpenAI's files and batches: answered within a day, for less.

A batch is made once and asked for as often as it takes. What it did and said is in files, whose
lines may come in any order, twice, or not at all; of those that did not come the most counts.
"""

import json
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.budgets import transport
from frugal.budgets.replies import loads, redacted
from frugal.budgets.source import Answer, Batches, NotMade
from frugal.engine import stderr
from frugal.errors import FrugalError
from frugal.tasks.templates import Example

if TYPE_CHECKING:
    from frugal.budgets.endpoint import Endpoint

TRIES = 5  # at a call that did not go through, and changes nothing
PAUSE = 60.0  # seconds between two looks at a batch, at most
PATIENCE = 26 * 3600.0  # seconds, after which a batch that has a day is not waited for any longer
ENDED = ("completed", "failed", "expired", "cancelled")
UNDONE = ("batch_expired", "batch_cancelled")  # of a request: nobody has read it
LINE_BYTES = 1 << 16  # of an answer in a file, on the mean; where there are more, none is read


@dataclass(frozen=True)
class Jobs(Batches):
    """Batches of chat completions at an endpoint's server."""

    endpoint: "Endpoint"
    size: int = 5000  # OpenAI takes 50,000, but no more than 200 MB: 40 kB each

    @property
    def share(self) -> float | None:
        return self.endpoint.batch_share

    @property
    def ready(self) -> bool:
        return self.endpoint.answered

    def upload(self, name: str, asked: Mapping[str, Example], attempt: int) -> str:
        lines = (
            {
                "custom_id": each,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self.endpoint.request(example, attempt),
            }
            for each, example in asked.items()
        )
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = (f"{name}.jsonl", data, "application/jsonl")
        got = self._tried("POST", "files", files={"file": file}, data={"purpose": "batch"})
        return _identifier(got, "a file")

    def create(self, name: str, file: str) -> str:
        about = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
        about |= {"completion_window": "24h"}
        try:
            got = self._call("POST", "batches", json={**about, "metadata": {"frugal": name}})
            if 200 <= got.status < 300:
                return _identifier(loads(got.body), "a batch")
            if got.status < 500 and got.status != 408:
                raise NotMade(f"{self._named} takes no batch: {_said(got)}")
        except transport.NeverSent as error:
            raise NotMade(f"{self._named}: {error}") from error
        except transport.Lost:
            pass
        for wait in range(3):  # it may have been made nevertheless
            if found := self.find(name, file):
                return found
            time.sleep(min(PAUSE, wait))
        raise FrugalError(f"{self._named} did not say whether it made a batch; call again")

    def find(self, name: str, file: str) -> str | None:
        found = self._tried("GET", "batches?limit=100", missing={})
        data = found.get("data")
        for batch in data if isinstance(data, list) else ():
            about = batch if isinstance(batch, dict) else {}
            metadata = about.get("metadata")
            mine = isinstance(metadata, dict) and metadata.get("frugal") == name
            if mine or about.get("input_file_id") == file:
                return _identifier(about, "a batch")
        return None

    def results(self, number: str, asked: Mapping[str, Example]) -> Iterator[tuple[str, Answer]]:
        batch, left = self._ended(number), dict(asked)
        for kind in ("output_file_id", "error_file_id"):
            if not isinstance(file := batch.get(kind), str) or not file:
                continue
            for record in self._content(file, len(asked)):
                name = record.get("custom_id") if isinstance(record, dict) else None
                if isinstance(name, str) and name in left:
                    yield name, self._answer(left.pop(name), record)
        for name, example in left.items():
            if batch.get("status") == "failed":  # as a whole, before any of it was read
                said = redacted(json.dumps(batch.get("errors"))[:400])
                yield name, Answer(None, 0, f"the batch failed: {said}", 0, "refused")
            else:
                most = self.endpoint.most_usd(example)
                yield name, Answer(None, most, "the batch has no answer to it", 0, "lost")

    def _answer(self, example: Example, record: Mapping[str, Any]) -> Answer:
        """What a line of a batch's files says."""
        response, error = record.get("response"), record.get("error")
        if isinstance(response, dict) and isinstance(status := response.get("status_code"), int):
            return self.endpoint.judged(example, status, json.dumps(response.get("body")).encode())
        said = redacted(json.dumps(error)[:400])
        if isinstance(error, dict) and error.get("code") in UNDONE:
            return Answer(None, 0, f"not done when its time was over: {said}", 0, "refused")
        return Answer(None, self.endpoint.most_usd(example), said, 0, "lost")

    def _ended(self, number: str) -> dict[str, Any]:
        """The batch, once nothing more is done about it; {} where the server knows of none."""
        until, seen = time.monotonic() + PATIENCE, ""
        pause = min(1.0, PAUSE)
        path = f"batches/{urllib.parse.quote(number, safe='')}"
        while time.monotonic() < until:
            batch = self._tried("GET", path, missing={})
            status = str(batch.get("status", "gone"))
            if status in ENDED or not batch:
                return batch
            if status != seen:
                stderr.say(f"batch {redacted(number)}: {redacted(status[:40])}; waiting")
                seen = status
            time.sleep(pause)
            pause = min(PAUSE, 2 * pause)
        raise FrugalError(f"{self._named}: batch {redacted(number)} has not ended; call again")

    def _content(self, file: str, lines: int) -> list[Any]:
        """Each line of a file; where one of them is no JSON, it may have come in part."""
        path = f"files/{urllib.parse.quote(file, safe='')}/content"
        found: list[Any] = []
        for wait in range(2):
            time.sleep(min(PAUSE, wait))
            most = transport.MOST_BYTES + lines * LINE_BYTES
            data = self._tried("GET", path, missing=b"", most_bytes=most)
            found = [loads(line) for line in data.split(b"\n") if line.strip()]
            if None not in found:
                break
        return found

    @property
    def _named(self) -> str:
        return self.endpoint.name

    def _tried(self, method: str, path: str, missing: Any = None, **content: Any) -> Any:
        """What a call that changes nothing says: its JSON, or the bytes of a file.

        missing: what it says where there is no such thing, or none of a sound size; else that is
            an error too
        """
        what = ""
        for wait in range(TRIES):
            if wait:
                time.sleep(min(PAUSE, 2.0 ** (wait - 1)))
            try:
                got = self._call(method, path, **content)
            except (transport.Lost, transport.NeverSent) as error:
                if missing is not None and isinstance(error, transport.TooLong):
                    return missing
                what = str(error)
                continue
            if 200 <= got.status < 300:
                if path.endswith("/content"):
                    return got.body
                if isinstance(found := loads(got.body), dict):
                    return found
            what = _said(got)
            if missing is not None and got.status in (404, 405):
                return missing
            if 300 <= got.status < 500 and got.status not in (408, 409, 429):
                break
        raise FrugalError(
            f"{self._named}, {path.split('?')[0]}: {what}; nothing is lost: call again"
        )

    def _call(self, method: str, path: str, **content: Any) -> transport.Got:
        server, most = self.endpoint, content.get("most_bytes", 0)
        sent = sum(len(part[1]) for part in content.get("files", {}).values())
        seconds = server.seconds + sent / 100_000 + most / 1_000_000
        url = f"{server.url.rstrip('/')}/{path}"

        async def once(came: Any) -> None:
            async with transport.client(server.key, seconds) as opened:
                came(await transport.call(opened, method, url, seconds, **content))

        return next(transport.arriving(once))


def _identifier(found: Any, what: str) -> str:
    """What a server calls something that it has made."""
    name = found.get("id") if isinstance(found, dict) else None
    if not isinstance(name, str) or not 0 < len(name) < 200 or not name.isprintable():
        raise FrugalError(
            f"the server has made {what} without a name: {redacted(str(found))[:200]}"
        )
    return name


def _said(got: transport.Got) -> str:
    return redacted(f"HTTP {got.status}: {got.body.decode('utf-8', 'replace')[:4000]}")[:400]
