"""`make soak`, third part: labels are bought from a server that misbehaves, and killed on the way.

    python tests/soak/buying.py [--runs N] [--seconds S] [--seed N]

Every run takes a way in which the server behaves (`MODES`), a cap, and a few processes that buy
and are killed, from outside at a random moment or at a random write; then one that is not. Looked
at are the file of answers after each of them, and what the server itself has counted.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "budgets"))

import chat_server

from children import Child
from frugal.budgets import batches, endpoint, labels
from frugal.budgets.replies import KEY
from frugal.errors import FrugalError

RUNS = 200
COUNT = 40  # examples of a run
LIMIT = 30.0  # seconds of one process; it hangs if it takes more


@dataclass(frozen=True)
class Mode:
    """How the server behaves, and how it is asked.

    faults:  kinds that a tenth of its answers have, or all of them
    calls:   faults of the first call of a kind, about batches
    lies:    what a meter takes
    options: of the endpoint
    ends:    a pattern of the errors that may end the purchase; empty: none may
    """

    faults: tuple[str, ...] = ()
    everywhere: bool = False
    calls: dict[str, str] = field(default_factory=dict)
    lies: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    ends: str = ""


def refusing(*parts, **options):
    return Mode(lies={"refuses": parts}, options=options)


def usage(said, ends=""):
    return Mode(lies={"usage": said}, ends=ends)


def share_of_words(found):
    return {name: 1 + int(0.1 * count) for name, count in found.items()}


OFFERS = ("response_format", "logprobs")
BATCH = {"batch_share": 0.5}
MODES = {
    "plain": Mode(),
    "newer": refusing("max_tokens", "temperature"),
    "no system turn": refusing("system"),
    "refuses all": refusing("max_tokens", "temperature", "system", "response_format"),
    "vague": refusing("vague"),
    "schema": Mode(lies={"offers": OFFERS}),
    "schema only": Mode(lies={"offers": OFFERS}, options={"form": "schema"}),
    "logprobs": Mode(lies={"offers": OFFERS}, options={"form": "logprobs"}),
    "no logprobs": refusing("logprobs", form="logprobs"),
    "text": Mode(options={"form": "text"}),
    **{
        f"thoughts {where}": Mode(
            lies={"thoughts": 30, "counted": where}, options={"answer_tokens": 60}
        )
        for where in ("in", "beside", "apart")
    },
    "only thoughts": Mode(
        lies={"thoughts": 90}, options={"answer_tokens": 60}, ends="went to thoughts"
    ),
    "cached": Mode(lies={"cached": 0.8}, options={"usd_per_1k_cached": 0.05}),
    "cache writes": Mode(lies={"cached": 0.5}, options={"usd_per_1k_write": 0.625}),
    "malformed": Mode(("malformed", "empty")),
    "all malformed": Mode(("malformed",), everywhere=True, ends="got no label"),
    "key echoed": Mode(("echo",)),
    "busy": Mode(("429",)),
    "breaking": Mode(("500", "502", "hang up")),
    "gone": Mode(("503",), everywhere=True, ends="got no label"),
    "no JSON": Mode(("html", "cut", "huge", "deep", "bytes")),
    "dripping": Mode(("drip", "drip headers"), options={"seconds": 0.5}),
    "refused texts": Mode(("400",)),
    "usage: none": usage(None),
    "usage: text": usage("free"),
    "usage: negative": usage({"prompt_tokens": -40000, "completion_tokens": -1}),
    "usage: zero": usage({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
    "usage: below the words": usage(share_of_words),
    "usage: huge": usage({"prompt_tokens": 10**9, "completion_tokens": 1}, "was due"),
    "usage: endless": usage({"prompt_tokens": 10**400, "completion_tokens": 1}, "was due"),
    "usage: thoughts": usage(
        lambda found: {**found, "completion_tokens_details": {"reasoning_tokens": 10**9}}, "was due"
    ),
    "everything": Mode(
        ("429", "500", "malformed", "cut", "hang up", "400", "echo"),
        lies={"refuses": ("max_tokens", "vague"), "thoughts": 20, "counted": "beside"},
        options={"answer_tokens": 50},
    ),
    "batch": Mode(lies={"polls": 2}, options=BATCH),
    "batch, slow": Mode(lies={"polls": 30}, options=BATCH),
    "batch, refuses all": refusing("max_tokens", "temperature", "system", "vague", **BATCH),
    "batch, malformed": Mode(("malformed", "dropped", "500", "400"), options=BATCH),
    "batch, expired": Mode(lies={"does": 7}, options=BATCH, ends="its time was over"),
    "batch, failed": Mode(calls={"create": "fail"}, options=BATCH, ends="the batch failed"),
    "batch, refused": Mode(calls={"create": "400"}, options=BATCH, ends="takes no batch"),
    "batch, made in silence": Mode(calls={"create": "hang up"}, options=BATCH),
    "batch, not made": Mode(calls={"create": "502"}, options=BATCH, ends="did not say"),
    "batch, broken calls": Mode(
        calls={"upload": "502", "list": "429", "state": "hang up", "content": "cut"}, options=BATCH
    ),
    "batch, everything": Mode(
        ("429", "500", "malformed", "cut", "dropped", "echo"),
        calls={"upload": "hang up", "create": "hang up", "state": "502", "content": "cut"},
        lies={"refuses": ("temperature",), "polls": 4, "cached": 0.5, "does": 15},
        options={**BATCH, "usd_per_1k_cached": 0.05},
        ends="HTTP 429|its time was over",
    ),
    "batch, usage: huge": Mode(
        lies={"usage": {"prompt_tokens": 10**9}}, options=BATCH, ends="was due"
    ),
}


def records(folder):
    """The whole lines of the file of answers."""
    file = folder / "answers.jsonl"
    content = file.read_bytes() if file.exists() else b""
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def asked_twice(found):
    """Examples that were asked about again although an earlier call about them was answered well.

    Or although it still is to be answered: it belongs to the same process, or to a batch there is.
    """
    bad, open_calls, last, done = [], {}, {}, set()
    batch_of, made = {}, set()
    for record in found:
        if "asked" in record:
            k, call = record["asked"], record["id"]
            before = last.get(k)
            if before in open_calls:
                same = before.split("-")[0] == call.split("-")[0]
                if same or batch_of.get(before) in made:
                    bad.append(f"{k} is asked about while {before} is open")
            if k in done:
                bad.append(f"{k} has a label, and is asked about")
            open_calls[call], last[k] = k, call
            batch_of[call] = record.get("batch")
        elif "made" in record:
            made.add(record["batch"])
        elif "withdrawn" in record:
            open_calls.pop(record["withdrawn"], None)
        elif "key" in record:
            if record.get("id") not in open_calls and record["key"] in done:
                bad.append(f"{record['key']} is paid for twice")
            open_calls.pop(record.get("id"), None)
            if record["choice"] is not None:
                done.add(record["key"])
    return bad


def buying(source, examples, folder, cap, at):
    """A process that buys; at its write `at` it dies. Its exit status is 1 where it breaks."""

    def work():
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        count, real = 0, os.fsync

        def fsync(file):
            nonlocal count
            count += 1
            if count == at and count % 2:
                os.truncate(file, max(0, os.fstat(file).st_size - 5))
            real(file)
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = fsync
        with contextlib.suppress(FrugalError):
            labels.buy(source, examples, folder, cap_usd=cap)

    return Child(work)


def killed(source, examples, folder, cap, chance):
    """Buy, and die on the way, perhaps; what is wrong with how it ended."""
    inside = chance.random() < 0.5
    child = buying(source, examples, folder, cap, chance.randint(1, 40) if inside else 0)
    began, until = time.monotonic(), chance.uniform(0.01, 0.5)
    while child.runs():
        passed = time.monotonic() - began
        if passed > (LIMIT if inside else until):
            child.kill()
            break
        time.sleep(0.002)
    status = child.wait()
    if inside and time.monotonic() - began > LIMIT:
        return status, [f"hangs for {LIMIT:g} s"]
    return status, ["it breaks"] if status == 1 else []


def trial(name, chance, place):
    """One run of a mode: how often it was killed, and what is wrong, in words."""
    mode, examples = MODES[name], chat_server.words(COUNT)
    numbers = range(500)
    few = {n: chance.choice(mode.faults) for n in numbers if chance.random() < 0.1 and mode.faults}
    faults = {"all": mode.faults[0]} if mode.everywhere else few
    kills, problems, kept = 0, [], b""
    with chat_server.serving({**faults, **mode.calls}, **mode.lies) as (url, meter):
        options = {"batch": chance.choice((1, 3, 8)), "seconds": 3.0, **mode.options}
        prices = {**chat_server.PRICE, "base_url": url}

        def source():
            return endpoint.Endpoint("tiny", **prices, **options)

        most = labels.quote(source(), examples).most_usd
        cap, file = most * chance.choice((0.1, 0.3, 1.5, 5.0)), place / "answers.jsonl"
        for _ in range(chance.randint(2, 5)):
            status, found = killed(source(), examples, place, cap, chance)
            kills += status == -signal.SIGKILL
            problems += found
            now = file.read_bytes() if file.exists() else b""
            if not now.startswith(kept):
                problems.append("lines of the file of answers are gone")
            kept = now[: now.rfind(b"\n") + 1]
        ended, bought = "", None
        for _ in range(6):  # where the server ends a run, one goes on
            try:
                bought, ended = labels.buy(source(), examples, place, cap_usd=cap), ""
                break
            except FrugalError as error:
                ended = str(error)
                if "no connection" in ended:
                    continue  # on a machine that is busy half a request's time may be too short
                if not mode.ends or not re.search(mode.ends, ended):
                    problems.append(f"ends with {ended[-300:]}")
                    break
                meter.does = None
        problems += wrong(source(), meter, examples, place, cap, kept, bought)
        if not mode.ends and cap > 4 * most and bought and bought.unasked:
            problems.append(f"{bought.unasked} texts are not asked about, though there is money")
    return kills, problems


def wrong(source, meter, examples, place, cap, kept, bought):
    """What the file of answers, the server's meter and the cap say against each other."""
    problems, found = [], records(place)
    if not (place / "answers.jsonl").read_bytes().startswith(kept):
        problems.append("lines of the file of answers are gone")
    problems += asked_twice(found)
    answers = [r for r in found if "key" in r]
    good = Counter(r["key"] for r in answers if r["choice"] is not None)
    asked = Counter(r["asked"] for r in found if "asked" in r)
    for example in examples:
        if meter.billed[example.prompt] > asked[labels.key(example)]:
            problems.append(f"{example.prompt[:20]!r} was billed and not reserved")
    cached = source.usd_per_1k_cached
    new = max(source.usd_per_1k_in, source.usd_per_1k_write or 0)
    billed = meter.usd(new, source.usd_per_1k_out, new if cached is None else cached)
    if source.usd_per_1k_write:  # what was in the cache is not written
        billed -= meter.cached_tokens * (new - source.usd_per_1k_in) / 1000
    if billed > cap * (1 + 1e-9):
        problems.append(f"the cap is passed: ${billed:.4f} of ${cap:.4f} were billed")
    keys = {labels.key(e): e for e in examples}
    if good.keys() - keys.keys():
        problems.append("a label for what nobody asked about")
    if bought is None:  # it was ended by the server: that nothing more is asked costs nothing
        with contextlib.suppress(FrugalError):
            bought = labels.buy(source, examples, place, cap_usd=0)
    if bought is not None:
        mine = sum(y is not None for y in bought.labels)
        if mine != len(good):
            problems.append(f"{mine} labels, but {len(good)} in the file")
        if mine + bought.unasked + bought.given_up != len(examples):
            problems.append(f"not accounted for: {bought}")
        committed = bought.spent_usd + bought.lost_usd
        if committed > cap * (1 + 1e-9):
            problems.append(f"the ledger holds ${committed:.4f} under a cap of ${cap:.4f}")
        if billed > committed * (1 + 1e-9) + 1e-9:
            problems.append(f"${billed:.4f} were billed, and ${committed:.4f} are in the ledger")
    text = (place / "answers.jsonl").read_text(encoding="utf-8")
    if chat_server.KEY in text:
        problems.append("the key is in the file of answers")
    return problems


def run(runs, seed, until=float("inf")):
    """So many runs, every mode in turn; counts of runs and kills by mode, and findings."""
    os.environ[KEY] = chat_server.KEY
    os.environ.pop("OPENAI_BASE_URL", None)
    batches.PAUSE = 0.02
    counts, kills, bad = Counter(), Counter(), []
    with tempfile.TemporaryDirectory() as place:
        order = list(MODES)
        random.Random(seed).shuffle(order)
        for number in range(runs):
            if time.monotonic() > until:
                break
            name = order[number % len(order)]
            folder = Path(place) / str(number)
            dead, found = trial(name, random.Random(f"{seed}-{number}"), folder)
            counts[name] += 1
            kills[name] += dead
            bad += [f"{name} (run {number}): {text}" for text in dict.fromkeys(found)]
    return counts, kills, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    counts, kills, bad = run(asked.runs, asked.seed, began + asked.seconds)
    print(f"{'the server is':26} runs  kills")
    for name in MODES:
        print(f"{name:26} {counts[name]:4} {kills[name]:6}")
    print("\n".join(bad))
    seconds, runs = time.monotonic() - began, sum(counts.values())
    print(
        f"{len(bad)} findings in {runs} runs of {len(MODES)} modes, {sum(kills.values())} kills "
        f"in {seconds:.0f} s, seed {asked.seed}"
    )
    return min(255, len(bad))


if __name__ == "__main__":
    sys.exit(main())
