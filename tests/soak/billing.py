"""The tests' chat server as a process of its own: its address, then what it has billed so far.

Prints its URL; for every line on stdin, one line of JSON: how often each prompt was billed, tokens.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "budgets"))

import chat_server

if __name__ == "__main__":
    with chat_server.serving() as (url, meter):
        print(url, flush=True)
        for _ in sys.stdin:
            with meter.lock:
                print(json.dumps([dict(meter.billed), meter.tokens]), flush=True)
