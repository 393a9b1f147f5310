"""A small server that speaks OpenAI's /v1/chat/completions, with a meter and faults on order."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-test-0123456789"


class Meter:
    """What the server billed (prompt texts, tokens), and what it saw."""

    def __init__(self, faults):
        self.faults = dict(faults)  # number of the request, from 0 -> kind of fault
        self.lock = threading.Lock()
        self.requests, self.billed, self.tokens = [], Counter(), [0, 0]
        self.seen_keys = set()


def answer_to(prompt):
    """What this model says to a prompt of the task `counting`: deterministic, often right."""
    word = prompt.split("\n")[0].removeprefix("Word: ")
    best = max("ab", key=word.count)
    return {"a": "a", "b": "b b"}[best]


class Handler(BaseHTTPRequestHandler):
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
        fault = meter.faults.get(number, "")
        if self.path != "/v1/chat/completions":
            return self.send(404, {"error": {"message": f"no such path {self.path}"}})
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            secret = self.headers.get("Authorization", "").removeprefix("Bearer ")
            return self.send(401, {"error": {"message": f"Incorrect API key provided: {secret}"}})
        if fault in ("429", "500", "503"):
            return self.send(
                int(fault), {"error": {"message": "try again"}}, {"Retry-After": "0.01"}
            )
        prompt = body["messages"][-1]["content"]
        text = answer_to(prompt)
        if fault == "malformed":
            text = f"I think the answer could be {text}, but I am not sure."
        if fault == "empty":
            text = ""
        read = sum(len(m["content"].split()) * 2 for m in body["messages"]) + 20
        written = min(body["max_tokens"], max(1, len(text.split()) * 2))
        with meter.lock:  # the work is done, so it is billed, whoever still listens
            meter.billed[prompt] += 1
            meter.tokens[0] += read
            meter.tokens[1] += written
        if fault == "slow":
            time.sleep(1.5)
        if fault == "hang up":
            self.connection.close()
            return None
        if fault == "html":
            return self.send(200, "<html>proxy error</html>")
        usage = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }
        return self.send(
            200,
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text},
                        "finish_reason": "stop",
                    }
                ],
                "usage": usage,
            },
        )

    def send(self, status, body, headers=()):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        try:
            self.send_response(status)
            kind = "text/html" if isinstance(body, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the client has gone


@contextmanager
def serving(faults=()):
    """The server's address and its meter."""
    meter = Meter(faults)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"meter": meter}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", meter
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
