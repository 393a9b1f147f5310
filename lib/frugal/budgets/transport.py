"""Calls of one server over HTTP: each of them ends, and what went wrong with it has a name.

They run in a thread with a loop of its own, where nothing of the network can hold up an interrupt.
"""

import asyncio
import contextlib
import queue
import ssl
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import httpx

from frugal.budgets.replies import redacted

T = TypeVar("T")

MOST_BYTES = 1 << 20  # of an answer; what is longer is none
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


class Lost(Exception):
    """No whole answer came; what was asked for may have been done, and billed."""


class TooLong(Lost):
    """The answer has more bytes than any that was asked for."""


class NeverSent(Exception):
    """The server was not reached."""


@dataclass(frozen=True)
class Got:
    """An answer to an HTTP request, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def client(key: str, seconds: float) -> httpx.AsyncClient:
    """One that keeps its connections; `seconds` to an answer's end are counted by `call`."""
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
        limits=httpx.Limits(max_connections=None),
        timeout=httpx.Timeout(None, connect=seconds / 2),
        verify=_trusted(),
    )


async def call(
    opened: httpx.AsyncClient,
    method: str,
    url: str,
    seconds: float,
    most_bytes: int = MOST_BYTES,
    **content: Any,
) -> Got:
    """One request, and its answer to the last byte; raises Lost or NeverSent, and nothing else."""

    async def whole() -> Got:
        body = b""
        async with opened.stream(method, url, **content) as reply:
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > most_bytes:
                    raise TooLong(f"an answer of more than {most_bytes:,} bytes")
            return Got(reply.status_code, reply.headers, body)

    try:
        return await asyncio.wait_for(whole(), seconds)
    except asyncio.TimeoutError as error:
        raise Lost(f"no whole answer in {seconds:g} s") from error
    except TooLong:
        raise
    except NEVER_SENT as error:
        raise NeverSent(redacted(f"no connection: {error}")) from error
    except Exception as error:  # a broken line, in any of its ways
        raise Lost(redacted(f"{type(error).__name__}: {error}")) from error


def arriving(
    work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]],
) -> Generator[T, None, None]:
    """What `work` hands on, as soon as it is there; what is not waited for is given up."""
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()
    loop, end = asyncio.new_event_loop(), object()
    task = loop.create_task(work(came.put))
    thread = threading.Thread(target=_run, args=(loop, task, came.put, end), daemon=True)
    thread.start()
    try:
        while (found := came.get()) is not end:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        with contextlib.suppress(RuntimeError):  # it is closed: all is done
            loop.call_soon_threadsafe(task.cancel)
        thread.join(timeout=1)


@lru_cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # takes longer than many an answer


def _run(
    loop: asyncio.AbstractEventLoop,
    task: "asyncio.Task[None]",
    came: Callable[[Any], None],
    end: object,
) -> None:
    """Work to the end, then close everything; a fault of ours ends the waiting too."""
    try:
        loop.run_until_complete(task)
        came(end)
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
