"""A small server that speaks OpenAI's /v1/chat/completions: a meter, faults and lies on order."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-test-0123456789"
PRICE = {"usd_per_1k_in": 0.5, "usd_per_1k_out": 1.5}
NEWER = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
COLD = "Unsupported value: 'temperature' does not support 0 with this model."
NO_SYSTEM = "System role not supported"


class Meter:
    """What the server billed (prompt texts, tokens), and what it saw.

    faults:  number of the request, from 0, or "all" -> kind of fault (see `Handler`)
    answer:  what it says to a prompt; usage, message, finish: what a reply holds instead of its own
    refuses: parts of a request that it does not take: "max_tokens", "temperature", "system"
    """

    def __init__(self, faults, **lies):
        self.faults = dict(faults)
        self.lock = threading.Lock()
        self.requests, self.billed, self.tokens = [], Counter(), [0, 0]
        self.seen_keys = set()
        self.answer, self.lies = lies.pop("answer", answer_to), lies
        self.refuses = lies.pop("refuses", ())

    def usd(self, usd_per_1k_in, usd_per_1k_out):
        """Of all that it billed."""
        return (self.tokens[0] * usd_per_1k_in + self.tokens[1] * usd_per_1k_out) / 1000


def answer_to(prompt):
    """What this model says to a prompt of the task `counting`: deterministic, often right."""
    word = prompt.split("\n")[0].removeprefix("Word: ")
    best = max("ab", key=word.count)
    return {"a": "a", "b": "b b"}[best]


class Handler(BaseHTTPRequestHandler):
    """Faults: a status ("429": not billed; "502": billed); "slow", "drip", "drip headers", "hang
    up", "html", "cut", "huge", "deep", "bytes" (billed, and no answer can be read in time);
    "malformed", "empty" (billed, and no choice is named); "echo": of the key."""

    protocol_version = "HTTP/1.1"
    meter: Meter

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        meter = self.meter
        with meter.lock:
            number = len(meter.requests)
            meter.requests.append(body)
            meter.seen_keys.add(self.headers.get("Authorization", ""))
        fault = meter.faults.get(number, meter.faults.get("all", ""))
        if self.path != "/v1/chat/completions":
            return self.send(404, error(f"no such path {self.path}"))
        secret = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if secret != KEY:
            return self.send(401, error(f"Incorrect API key provided: {secret}"))
        for part, said in (("max_tokens", NEWER), ("temperature", COLD), ("system", NO_SYSTEM)):
            there = part in body or part in [m["role"] for m in body["messages"]]
            if part in meter.refuses and there:
                return self.send(400, error(said))
        if fault in ("400", "403", "429"):
            return self.send(int(fault), error(f"no: {secret}"), {"Retry-After": "0.01"})
        prompt = body["messages"][-1]["content"]
        text = meter.answer(prompt)
        if fault == "malformed":
            text = f"I think the answer could be {text}, but I am not sure."
        if fault == "empty":
            text = ""
        if fault == "echo":
            text = f"{text}\nsent with Bearer {secret}"
        read = sum(len(m["content"].split()) * 2 for m in body["messages"]) + 20
        allowed = body.get("max_tokens", body.get("max_completion_tokens"))
        written = min(allowed, max(1, len(text.split()) * 2))
        with meter.lock:  # the work is done, so it is billed, whoever still listens
            meter.billed[prompt] += 1
            meter.tokens[0] += read
            meter.tokens[1] += written
        usage = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }
        reply = {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": meter.lies.get("finish", "stop"),
                }
            ],
            "usage": meter.lies.get("usage", usage),
        }
        if "message" in meter.lies:
            reply["choices"][0]["message"] = meter.lies["message"]
        if fault == "slow":
            time.sleep(1.5)
        if fault == "hang up":
            self.connection.close()
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
            return self.send(int(fault), error(f"bad gateway, {secret}"), {"Retry-After": "0.01"})
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
