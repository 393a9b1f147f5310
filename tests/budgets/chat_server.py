"""A small server of OpenAI's chat completions, files and batches: a meter, faults and lies."""

import json
import math
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from frugal.tasks.templates import Example

KEY = "sk-test-0123456789"
PRICE = {"usd_per_1k_in": 0.5, "usd_per_1k_out": 1.5}
NEWER = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
COLD = "Unsupported value: 'temperature' does not support 0 with this model."
NO_SYSTEM = "System role not supported"
NO_SCHEMA = "Invalid parameter: 'response_format' of type 'json_schema' is not supported here."
NO_LOGPROBS = "This model does not support the parameter 'logprobs'."
NO_EFFORT = "Unrecognized request argument supplied: reasoning_effort"


class Meter:
    """What the server billed (prompt texts, tokens), and what it saw.

    faults:  number of the request, from 0, or "all" -> kind of fault (see `Handler`); and "upload",
        "create", "list", "state", "content" -> of the first such call about a batch
    answer:  what it says to a prompt; usage, message, finish: what a reply holds instead of its own
    refuses: parts of a request that it does not take: "max_tokens", "temperature", "system",
        "response_format", "logprobs", "reasoning_effort"
    offers:  "response_format", "logprobs": which it heeds; it ignores those it does not offer
    thoughts: tokens that it thinks before each answer; counted: where it says so, "in" what it has
        written, "beside" that and in the total, or "apart", in no other count
    cached:  the share of each prompt that it had read before
    polls:   how often it is asked for a batch before that is done; does: requests of a batch that
        it does before the window ends; all, if None
    """

    def __init__(self, faults, **lies):
        self.faults = dict(faults)
        self.lock = threading.Lock()
        self.requests, self.billed, self.tokens = [], Counter(), [0, 0]
        self.cached_tokens, self.half = 0, [0, 0]  # of `tokens`: in the cache; in batches
        self.seen_keys = set()
        self.answer = lies.pop("answer", answer_to)
        self.refuses, self.offers = lies.pop("refuses", ()), lies.pop("offers", ())
        self.thoughts, self.counted = lies.pop("thoughts", 0), lies.pop("counted", "in")
        self.cached = lies.pop("cached", 0)
        self.polls, self.does = lies.pop("polls", 1), lies.pop("does", None)
        self.lies = lies
        self.files, self.batches = {}, {}
        self.calls = []  # about those: method, path, and body where it is JSON

    def usd(self, usd_per_1k_in, usd_per_1k_out, usd_per_1k_cached=None, batch_share=0.5):
        """Of all that it billed."""
        less = 0 if usd_per_1k_cached is None else usd_per_1k_in - usd_per_1k_cached
        whole = (self.tokens[0] * usd_per_1k_in + self.tokens[1] * usd_per_1k_out) / 1000
        batched = (self.half[0] * usd_per_1k_in + self.half[1] * usd_per_1k_out) / 1000
        return whole - self.cached_tokens * less / 1000 - batched * (1 - batch_share)

    def refused(self, body):
        """What it says of a request that it does not take."""
        roles = [m["role"] for m in body["messages"]]
        said = {"max_tokens": NEWER, "temperature": COLD, "system": NO_SYSTEM}
        said |= {"response_format": NO_SCHEMA, "logprobs": NO_LOGPROBS}
        said["reasoning_effort"] = NO_EFFORT
        return next((said[p] for p in self.refuses if p in said and (p in body or p in roles)), "")

    def reply(self, body, number, fault="", batch=False):
        """A completion; the work is done, so it is billed, whoever still listens."""
        prompt = body["messages"][-1]["content"]
        text = self.answer(prompt)
        if fault == "malformed":
            text = f"I think the answer could be {text}, but I am not sure."
        if fault == "empty":
            text = ""
        if fault == "echo":
            text = f"{text}\nsent with Bearer {KEY}"
        choice = {"index": 0, "message": {"role": "assistant"}, "finish_reason": "stop"}
        if "logprobs" in self.offers and body.get("logprobs"):
            choice["logprobs"] = {"content": [listed(text, body["top_logprobs"])]}
            text = f"It is {text}."  # which alone is no answer
        if "response_format" in self.offers and "response_format" in body:
            named = body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"]
            text = json.dumps({"answer": text if text in named else named[0]})
        read = sum(len(m["content"].split()) * 2 for m in body["messages"]) + 20
        read += len(json.dumps(body.get("response_format", "")).split())
        allowed = body.get("max_tokens", body.get("max_completion_tokens"))
        thought = min(self.thoughts, allowed)
        wrote = min(allowed - thought, max(1, len(text.split()) * 2))
        if thought == allowed:
            text, choice["finish_reason"] = "", "length"
        cached = int(read * self.cached)
        with self.lock:
            self.billed[prompt] += 1
            for place, tokens in enumerate((read, thought + wrote)):
                self.tokens[place] += tokens
                self.half[place] += batch * tokens
            self.cached_tokens += cached
        said = thought + wrote if self.counted == "in" else wrote
        usage = {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}
        if self.counted == "beside":
            usage["total_tokens"] += thought
        if self.counted == "apart":
            del usage["total_tokens"]
        if thought:
            usage["completion_tokens_details"] = {"reasoning_tokens": thought}
        if self.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        choice["finish_reason"] = self.lies.get("finish", choice["finish_reason"])
        choice["message"]["content"] = text
        if "message" in self.lies:
            choice["message"] = self.lies["message"]
        lied = self.lies.get("usage", usage)
        return {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [choice],
            "usage": lied(usage) if callable(lied) else lied,
        }


def listed(text, count):
    """The first token of an answer, and others with their probabilities."""
    first = {"a": ("a", "b"), "b b": ("b", "a")}.get(text, ("I", "a"))
    shares = [*zip(first, (0.7, 0.2), strict=True), ("I", 0.05), ("\n", 0.01)]
    every = [{"token": t, "logprob": math.log(share), "bytes": None} for t, share in shares]
    return {**every[0], "top_logprobs": every[:count]}


def answer_to(prompt):
    """What this model says to a prompt of the task `counting`: deterministic, often right."""
    word = prompt.split("\n")[0].removeprefix("Word: ")
    best = max("ab", key=word.count)
    return {"a": "a", "b": "b b"}[best]


def words(count):
    """Different examples, each of which this model answers; the label is what it says."""
    spelled = [f"{i:09b}".translate({48: "a", 49: "b"}) for i in range(count)]
    asked = [f"Word: {word}\nLetter:" for word in spelled]
    said = [int(answer_to(prompt) == "b b") for prompt in asked]
    return [
        Example(prompt=p, choices=(" a", " b b"), label=y) for p, y in zip(asked, said, strict=True)
    ]


class Handler(BaseHTTPRequestHandler):
    """Faults: a status ("429": not billed; "502": billed); "slow", "drip", "drip headers", "hang
    up", "html", "cut", "huge", "deep", "bytes" (billed, and no answer can be read in time);
    "malformed", "empty" (billed, and no choice is named); "echo": of the key."""

    protocol_version = "HTTP/1.1"
    meter: Meter

    def log_message(self, *_):
        pass

    def do_GET(self):
        if not self.known():
            return None
        self.meter.calls.append(("GET", self.path, None))
        _, _, what, *rest = self.path.split("?")[0].split("/")
        found = {"files": self.meter.files, "batches": self.meter.batches}.get(what, {})
        if what == "batches" and not rest:
            with self.meter.lock:
                all_of_them = list(reversed(found.values()))
            return self.ending("list", {"object": "list", "data": all_of_them, "has_more": False})
        if not rest or rest[0] not in found:
            return self.send(404, error(f"no such path {self.path}"))
        if what == "files":
            return self.ending("content", found[rest[0]])
        self.work_on(found[rest[0]])
        return self.ending("state", found[rest[0]])

    def known(self):
        """Whether who asks has the key."""
        secret = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.meter.seen_keys.add(f"Bearer {secret}")
        if secret != KEY:
            self.send(401, error(f"Incorrect API key provided: {secret}"))
        return secret == KEY

    def ending(self, call, document):
        """Answer a call about a batch, with the fault that its first has."""
        fault = self.meter.faults.pop(call, "")
        if fault == "hang up":
            self.close_connection = True
            return None
        if fault.isdigit():
            return self.send(int(fault), error(f"{call} failed"), {"Retry-After": "0.01"})
        document = document if isinstance(document, str) else json.dumps(document)
        return self.send(200, document[:-9] if fault == "cut" else document)

    def work_on(self, batch):
        """Once it was asked for often enough, the batch is done: each request, or the first few."""
        meter = self.meter
        with meter.lock:
            batch["polls"] += 1
            if batch["polls"] != meter.polls or batch["status"] != "in_progress":
                return
            batch["status"] = "finalizing"
        done, failed = [], []
        lines = [json.loads(line) for line in meter.files[batch["input_file_id"]].splitlines()]
        for place, line in enumerate(lines):
            with meter.lock:
                number = len(meter.requests)
                meter.requests.append(line["body"])
            record = {"id": f"r{number}", "custom_id": line["custom_id"], "error": None}
            fault = meter.faults.get(number, meter.faults.get("all", ""))
            if meter.does is not None and place >= meter.does:
                record["error"] = {"code": "batch_expired", "message": "the window has ended"}
            elif said := meter.refused(line["body"]):
                record["response"] = {"status_code": 400, "body": error(said)}
            elif fault.isdigit():
                record["response"] = {"status_code": int(fault), "body": error("no")}
            else:
                reply = meter.reply(line["body"], number, fault, batch=True)
                record["response"] = {"status_code": 200, "body": reply}
                if fault != "dropped":
                    done.append(record)
                continue
            failed.append(record)
        with meter.lock:
            for kind, records in (("output_file_id", done[::-1]), ("error_file_id", failed)):
                if records:
                    batch[kind] = f"file-{kind}-{batch['id']}"
                    meter.files[batch[kind]] = "".join(json.dumps(r) + "\n" for r in records)
            batch["status"] = "expired" if meter.does is not None else "completed"

    def take_file(self, data):
        """A multipart upload: the part that is lines of JSON."""
        start = data.index(b'{"custom_id"') if b'{"custom_id"' in data else len(data)
        text = data[start : data.rindex(b"\r\n--")].decode()
        with self.meter.lock:
            name = f"file-{len(self.meter.files)}"
            self.meter.files[name] = text
        return self.ending("upload", {"id": name, "object": "file", "purpose": "batch"})

    def take_batch(self, body):
        fault = self.meter.faults.get("create", "")
        with self.meter.lock:
            batch = {
                "id": f"batch_{len(self.meter.batches)}",
                "object": "batch",
                "status": "in_progress",
                "polls": 0,
                "input_file_id": body["input_file_id"],
                "metadata": body.get("metadata"),
                "endpoint": body["endpoint"],
            }
            if fault == "fail":
                batch["status"] = "failed"
                batch["errors"] = {"data": [{"message": "line 1 is no request"}]}
            if not fault.isdigit():
                self.meter.batches[batch["id"]] = batch
        return self.ending("create", batch)

    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if len(data) < int(self.headers["Content-Length"]):
            return None  # a client that was killed
        if self.path in ("/v1/files", "/v1/batches"):
            if not self.known():
                return None
            body = None if self.path == "/v1/files" else json.loads(data)
            self.meter.calls.append(("POST", self.path, body))
            return self.take_file(data) if body is None else self.take_batch(body)
        body = json.loads(data)
        meter = self.meter
        with meter.lock:
            number = len(meter.requests)
            meter.requests.append(body)
        fault = meter.faults.get(number, meter.faults.get("all", ""))
        if self.path != "/v1/chat/completions":
            return self.send(404, error(f"no such path {self.path}"))
        if not self.known():
            return None
        if said := meter.refused(body):
            return self.send(400, error(said))
        if "vague" in meter.refuses and "response_format" in body:
            return self.send(400, error("Bad Request"))
        if fault in ("400", "403", "429"):
            return self.send(int(fault), error(f"no: {KEY}"), {"Retry-After": "0.01"})
        reply = meter.reply(body, number, fault)
        if fault == "slow":
            time.sleep(1.5)
        if fault == "hang up":
            self.close_connection = True
            return None
        if fault.startswith("drip"):
            return self.drip(json.dumps(reply), headers=fault == "drip headers")
        bodies = {
            "html": "<html>proxy error</html>",
            "cut": json.dumps(reply)[:-9],
            "huge": json.dumps({**reply, "more": "x" * 2_000_000}),
            "deep": "[" * 100_000,
            "bytes": b"\xff\xfe\xff",
        }
        if fault in bodies:
            return self.send(200, bodies[fault])
        if fault.isdigit():
            return self.send(int(fault), error(f"bad gateway, {KEY}"), {"Retry-After": "0.01"})
        return self.send(200, reply)

    def drip(self, text, headers):
        """A space every 20 ms, for as long as somebody listens (20 s at most)."""
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Slow: " if headers else b"\r\n"))
            for _ in range(1000):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.02)
            self.wfile.write(text.encode())
        except OSError:
            pass  # the client has gone
        self.close_connection = True

    def send(self, status, body, headers=()):
        data = json.dumps(body) if isinstance(body, dict) else body
        data = data.encode() if isinstance(data, str) else data
        try:
            self.send_response(status)
            kind = "application/json" if isinstance(body, dict) else "text/html"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the client has gone


def error(message):
    return {"error": {"message": message, "type": "invalid_request_error"}}


class Server(ThreadingHTTPServer):
    daemon_threads = True  # one that drips does not hold up the others' end
    block_on_close = False

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed
            super().handle_error(request, client_address)


@contextmanager
def serving(faults=(), **lies):
    """The server's address and its meter."""
    meter = Meter(faults, **lies)
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"meter": meter}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", meter
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
