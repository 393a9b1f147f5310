"""The doors of what runs leave behind, and of what servers answer."""

import asyncio
import contextlib
import hashlib
import importlib
import io
import json
import math
import shutil
import string
import time
from pathlib import Path

import doors
import httpx
import mutate
import torch
from doors import folder_of, instead, put, unlike
from harness import Door, Wrong, inputs
from hypothesis import strategies as st

from frugal.budgets import annotators, distill, labels
from frugal.budgets.endpoint import Endpoint
from frugal.engine import artifacts, backbones, runs, sweep
from frugal.engine.checkpoints import Checkpoint
from frugal.errors import FrugalError
from frugal.spaces.search import Search, Settings
from frugal.tasks import Example

# --- checkpoints -------------------------------------------------------------------------------

OF = {"recipe": '{"steps": 9}', "examples": "abc", "start": ""}


def training(seed):
    """Two parameters and an optimiser in the middle of its work."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {
        name: torch.nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in (("a.scale", (3,)), ("b.weight", (2, 2)))
    }
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1)
    for _ in range(3):
        sum((p**2).sum() for p in parameters.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return parameters, optimizer


def state_of(parameters, optimizer, loss, seconds):
    """Everything a training goes on from, as plain numbers."""
    state = optimizer.state_dict()["state"]
    moments = {f"{i}/{key}": value.tolist() for i, of in state.items() for key, value in of.items()}
    return {
        "parameters": {name: p.tolist() for name, p in parameters.items()},
        "optimizer": moments,
        "loss": loss,
        "seconds": seconds,
    }


def checkpoint_door(place):
    place = place / "checkpoints"
    parameters, optimizer = training(1)
    loss = [2.5, 1.25, 0.625]
    Checkpoint(place / "kept.safetensors", OF).keep(parameters, optimizer, loss, 7.5)
    kept = folder_of(place)
    sound = kept["kept.safetensors"]
    wanted = state_of(parameters, optimizer, loss, 7.5)

    @st.composite
    def changed(draw):
        if draw(st.booleans()):
            return draw(mutate.raw(sound))
        how, found = draw(mutate.tensors(doors.loaded(sound)))
        return how, doors.resaved(place, sound, found)

    def enter(case):
        put(place / "case", {**kept, "kept.safetensors": case.data})
        others, fresh = training(2)
        found = Checkpoint(place / "case" / "kept.safetensors", OF).restore(others, fresh)
        if found[0] == []:
            raise Wrong("a damaged checkpoint is taken for none")
        unlike(
            "goes on from another state",
            json.dumps(state_of(others, fresh, *found), sort_keys=True),
            json.dumps(wanted, sort_keys=True),
        )

    return Door("checkpoints", inputs(st.just(sound), changed(), mutate.wild_bytes), enter, 3)


# --- what servers answer -----------------------------------------------------------------------

KEY = "sk-soak-0123456789"
STATUSES = (
    200, 201, 204, 301, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529,
)  # fmt: skip
UNBILLED = {301, 400, 401, 403, 404, 409, 413, 422, 429}  # a server that says so did no work
QUESTIONS = [
    Example(prompt=f"{i} plus {i} is", choices=(" even", " odd"), label=0) for i in range(3)
]


def honest(request):
    """What a sound server answers, and what it bills: a token is a byte, at the most."""
    body = json.loads(request.content)
    read = sum(len(m["content"].encode()) for m in body["messages"]) + 20
    usage = {"prompt_tokens": read, "completion_tokens": 2, "total_tokens": read + 2}
    message = {"role": "assistant", "content": "even"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [choice], "usage": usage,
    }  # fmt: skip


class Server:
    """In the place of the network: answers the n-th request by what it was told for it."""

    def __init__(self, source):
        self.source, self.told, self.count, self.usd = source, {}, 0, 0.0
        self.usages = []  # as they were sent
        Server.latest = self

    def tell(self, told):
        self.told, self.count, self.usd = told, 0, 0.0

    @contextlib.contextmanager
    def instead_of_the_network(self, naps):
        """Whichever transport of which client asks, the server answers; waits take no time."""
        server, real = self, asyncio.sleep

        async def sleep(seconds, *rest):
            if seconds > 0.2:  # shorter ones look whether something has come
                naps.append(seconds)
            await real(min(seconds, 0.001))

        with contextlib.ExitStack() as stack:
            for name in ("httpx", "httpx2"):  # the second is that of OpenAI's newer clients
                with contextlib.suppress(ImportError):
                    module = importlib.import_module(name)

                    def handle(transport, request, module=module):
                        request.read()
                        return server.answer(request, module)

                    async def handle_async(transport, request, module=module):
                        await request.aread()
                        return server.answer(request, module)

                    ways = module.HTTPTransport, module.AsyncHTTPTransport
                    stack.enter_context(instead(ways[0], "handle_request", handle))
                    stack.enter_context(instead(ways[1], "handle_async_request", handle_async))
            stack.enter_context(instead(asyncio, "sleep", sleep))
            stack.enter_context(instead(time, "sleep", naps.append))
            yield

    def answer(self, request, module):
        said = self.told.get(self.count, {})
        self.count += 1
        document, status = honest(request), said.get("status", 200)
        if status not in UNBILLED:
            usage = document["usage"]
            self.usd += self.source.usd_per_1k_in * usage["prompt_tokens"] / 1000
            self.usd += self.source.usd_per_1k_out * usage["completion_tokens"] / 1000
        content = said["edit"](document) if "edit" in said else mutate.dumps(document)
        with contextlib.suppress(ValueError, TypeError, LookupError, RecursionError):
            self.usages.append(json.loads(content)["usage"])
        headers = {"content-type": "application/json", **said.get("headers", {})}
        return module.Response(status, headers=headers, content=content, request=request)


HEADERS = [
    ("content-type", "text/html"),
    ("content-type", ""),
    ("content-type", "application/json; charset=utf-16"),
    ("content-encoding", "gzip"),
    ("content-encoding", "x"),
]


@st.composite
def lies(draw):
    """One request's answer with one thing wrong; which request; what was done."""
    number = draw(st.integers(0, 2))
    how = draw(
        st.sampled_from(
            ["document", "document", "usage", "usage", "raw", "status", "header", "text"]
        )
    )
    document = honest(
        httpx.Request("POST", "http://x", content=b'{"messages": [{"content": "x"}]}')
    )
    if how == "document":
        said, changed = draw(mutate.document(document))
        return f"request {number}: {said}", {number: {"edit": lambda _: mutate.dumps(changed)}}
    if how == "usage":
        name, value = draw(st.sampled_from(sorted(document["usage"]))), draw(mutate.numbers)
        document["usage"][name] = value
        return f"request {number}: {name} is {ascii(value)[:40]}", {
            number: {"edit": lambda _: mutate.dumps(document)}
        }
    if how == "raw":
        said, content = draw(mutate.raw(mutate.dumps(document)))
        return f"request {number}: {said}", {number: {"edit": lambda _: content}}
    if how == "text":
        said = draw(
            doors.texts
            | st.sampled_from(["odd", "<think>odd</think>even", "EVEN。", "“even”", "\ud800"])
        )
        document["choices"][0]["message"]["content"] = said
        return f"request {number} says {said!r}", {
            number: {"edit": lambda _: mutate.dumps(document)}
        }
    retry = draw(st.sampled_from(["0.01", "-1", "nan", "inf", "1e9", "Thu, 01 Jan 2099", "٣", ""]))
    if how == "status":
        status = draw(st.sampled_from(STATUSES))
        again = draw(st.integers(1, 8))
        told = {"status": status, "headers": {"retry-after": retry} if retry.isascii() else {}}
        return f"{again} times HTTP {status} from request {number}, retry after {retry!r}", {
            number + i: told for i in range(again)
        }
    name, value = draw(st.sampled_from(HEADERS))
    return f"request {number}: {name} is {value!r}", {number: {"headers": {name: value}}}


def server_door(place):
    place = place / "server"
    source = Endpoint("m", 0.5, 1.5, base_url="http://127.0.0.1:9/v1", batch=2, seconds=5)
    server = Server(source)
    most = max(map(source.most_usd, QUESTIONS))
    naps = []

    def buy(cap):
        with server.instead_of_the_network(naps):
            return labels.buy(source, QUESTIONS, place, cap_usd=cap)

    def kept():
        file = place / "answers.jsonl"
        lines = file.read_text(encoding="utf-8").split("\n") if file.exists() else []
        return [doors.strict(line) for line in lines if line]

    def enter(case):
        shutil.rmtree(place, ignore_errors=True)
        naps.clear()
        server.tell(case.data)
        cap, error, bought = 5 * most, None, None
        try:
            bought = buy(cap)
        except FrugalError as caught:
            error = caught
        if server.usd > cap * (1 + 1e-9):
            raise Wrong(f"the cap is passed: ${server.usd:.4f} of ${cap:.4f} were billed")
        if bad := [n for n in naps if not 0 <= n <= 60]:
            raise Wrong(f"waits for {bad[0]} seconds")
        before = {r["key"]: r["choice"] for r in kept() if r.get("choice") is not None}
        spent = sum(r["usd"] for r in kept() if "choice" in r)
        if not 0 <= spent <= cap:
            raise Wrong(f"the ledger holds ${spent}")
        if bought is not None:
            _sound(bought, cap)
        server.tell({})
        again = buy(50 * most)  # by a server that is honest
        _sound(again, 50 * most)
        if None in again.labels and error is None and again.given_up == 0:
            raise Wrong(f"not all are labelled in the end: {again.labels}")
        for question, label in zip(QUESTIONS, again.labels, strict=True):
            if before.get(labels.key(question), label) != label:
                raise Wrong("a label that was paid for is lost")
        if error is not None:
            raise error

    def _sound(bought, cap):
        for label in bought.labels:
            if label is not None and label not in (0, 1):
                raise Wrong(f"a label out of range: {label!r}")
        total = bought.spent_usd + bought.lost_usd
        if not (math.isfinite(total) and bought.spent_usd >= 0 and bought.lost_usd >= 0):
            raise Wrong(f"money that is none: {bought.spent_usd} and {bought.lost_usd}")
        if total > cap * (1 + 1e-9):
            raise Wrong(f"the cap is passed: {total} of {cap}")
        if bought.tokens < 0:
            raise Wrong(f"{bought.tokens} tokens")

    return Door("server answers", inputs(st.just({}), lies()), enter, 1)


# --- the ledger of labels ----------------------------------------------------------------------


def ledger_door(place):
    place = place / "ledger"
    pool = annotators.HumanPool(0.1, batch=2)
    shutil.rmtree(place, ignore_errors=True)
    labels.buy(pool, QUESTIONS, place, cap_usd=1)
    sound = (place / "answers.jsonl").read_bytes()
    lines = [json.loads(line) for line in sound.splitlines()]

    @st.composite
    def changed(draw):
        if draw(st.booleans()):
            return draw(mutate.raw(sound))
        how, found = draw(mutate.document(lines))
        found = found if isinstance(found, list) else [found]
        return how, b"".join(mutate.dumps(line) + b"\n" for line in found)

    def enter(case):
        shutil.rmtree(place, ignore_errors=True)
        put(place, {"answers.jsonl": case.data})
        bought = labels.buy(pool, QUESTIONS, place, cap_usd=1)
        for label in bought.labels:
            if label is not None and (type(label) is not int or label not in (0, 1)):
                raise Wrong(f"a label out of range: {label!r}")
        total = bought.spent_usd + bought.lost_usd
        if not math.isfinite(total) or min(bought.spent_usd, bought.lost_usd) < 0:
            raise Wrong(f"money that is none: {bought.spent_usd} and {bought.lost_usd}")
        if bought.tokens < 0:
            raise Wrong(f"{bought.tokens} tokens")
        if bought.unasked and total + 0.1 <= 1:
            raise Wrong(f"{bought.unasked} are not asked about, with ${total} of $1 spent")

    return Door("ledgers of labels", inputs(st.just(sound), changed(), mutate.wild_bytes), enter, 2)


# --- a teacher's outputs -----------------------------------------------------------------------


class Teacher:
    """Logits that depend on the text alone."""

    def logits(self, examples):
        rows = [hashlib.sha256(e.prompt.encode()).digest()[:2] for e in examples]
        return torch.tensor([[b / 16 for b in row] for row in rows]), distill.Cost(0.5, 7, 11.0)

    def fingerprint(self):
        return "of the soak"


def outputs_door(place):
    place = place / "outputs"
    wanted = distill.outputs(Teacher(), QUESTIONS, place / "sound")
    kept = folder_of(place / "sound")
    (name,) = kept

    @st.composite
    def changed(draw):
        if draw(st.booleans()):
            return draw(mutate.raw(kept[name]))
        how, found = draw(mutate.tensors(doors.loaded(kept[name])))
        return how, doors.resaved(place, kept[name], found)

    def enter(case):
        shutil.rmtree(place / "case", ignore_errors=True)
        put(place / "case", {name: case.data})
        table, cost = distill.outputs(Teacher(), QUESTIONS, place / "case")
        unlike("other logits than the teacher's", table.tolist(), wanted[0].tolist())
        unlike("another cost than the teacher's", cost, wanted[1])

    return Door(
        "teacher outputs", inputs(st.just(kept[name]), changed(), mutate.wild_bytes), enter, 2
    )


# --- stores ------------------------------------------------------------------------------------


@runs.job(flops=lambda number, **_: 10.0 * number)
def digits(number, name):
    """A result that depends on the parameters alone."""
    found = hashlib.sha256(f"{number}{name}".encode()).digest()
    return {"score": found[0] / 256, "more": list(found[1:4]), "said": name}


SPECS = [runs.RunSpec(job="more_doors:digits", params={"number": n, "name": "é"}) for n in (1, 2)]
OWN = ["id", "job", "number", "name", "score", "more", "said"]  # of a row, but not when and where


def tree_of(folder):
    """Relative path and bytes of every file below."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def put_tree(folder, files):
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@st.composite
def changed_tree(draw, files, names):
    name = draw(st.sampled_from(names))
    files = dict(files)
    if draw(st.integers(0, 19)) == 0:
        del files[name]
        return f"{name} is not there", files
    if draw(st.integers(0, 2)) == 0 or not name.endswith(".json"):
        how, files[name] = draw(mutate.raw(files[name]))
    else:
        how, document = draw(mutate.document(json.loads(files[name])))
        files[name] = mutate.dumps(document)
    return f"{name}: {how}", files


def wild_tree(files, names):
    return st.tuples(st.sampled_from(names), mutate.wild_bytes).map(
        lambda pair: {**files, pair[0]: pair[1]}
    )


def as_json(frame):
    return json.loads(frame[OWN].to_json(orient="records"))


def read_json(content):
    return json.loads(content, parse_constant=lambda name: math.nan)


def store_door(place):
    """A sweep's store: a damaged result is no result, and a table holds what the files say."""
    place = place / "store"
    shutil.rmtree(place, ignore_errors=True)
    wanted = as_json(sweep.run(SPECS, runs.Store(place)))
    kept = tree_of(place)
    names = [n for n in kept if Path(n).name in ("spec.json", "result.json", "machine.json")]

    def enter(case):
        put_tree(place, case.data)
        refusals = []
        store = runs.Store(place)
        asks = (
            lambda: sweep.run(SPECS, store),
            lambda: sweep.collect(store),
            lambda: sweep.status(store),
        )
        for ask in asks:
            try:
                found = ask()
            except FrugalError as error:
                refusals.append(error)
                continue
            if "state" in found.columns or found.empty:
                continue
            scores = found["score"].tolist()
            if any(
                isinstance(s, bool) or not isinstance(s, int | float) or not math.isfinite(s)
                for s in scores
            ):
                raise Wrong(f"a score that is none: {scores}")
            for row in as_json(found):
                expected = next((w for w in wanted if w["id"] == row["id"]), None)
                if row == expected:
                    continue
                # Not what the job computes: then it is what a sound file says.
                said = read_json((place / "runs" / row["id"] / "result.json").read_bytes())
                theirs = {
                    k: said.get(k, expected and expected[k]) for k in ("score", "more", "said")
                }
                if expected is None or {k: row[k] for k in theirs} != theirs or "score" not in said:
                    raise Wrong(f"a row that nobody computed: {row}")
        if refusals:
            raise refusals[0]

    return Door(
        "results",
        inputs(st.just(kept), changed_tree(kept, names), wild_tree(kept, names)),
        enter,
        2,
    )


SEARCH = Settings(
    backbone="tiny-encoder", arch="minilm-l6", tasks=("counting",), labels=8, limit=8, designs=1,
    last_designs=1, until="S1", flops_per_second=1e9,
)  # fmt: skip


def search_door(place):
    """`spaces report` and `spaces status` on the store of a search."""
    place = place / "search"
    shutil.rmtree(place, ignore_errors=True)
    search = Search(SEARCH, runs.Store(place))
    search.keep_settings()

    def answered(_, specs):
        search.store.add(specs)
        for number, spec in enumerate(specs):
            result = {"score": number / 32, "params": 9, "head_params": 3, "loss": 0.5}
            took = {"started": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "host": "here"}
            search.store.keep(spec, runs.Attempt(result=result, **took))

    list(search.walk(answered))
    kept = tree_of(place)
    names = [n for n in kept if n.endswith(".json")]
    weighted = names + ["search.json"] * (len(names) // 2)
    wanted = doors.answer(["spaces", "report", "--store", place, "--preset", "smoke", "--json"])

    def enter(case):
        put_tree(place, case.data)
        refusals = []
        for argv in (["report", "--runs", place / "runs.csv"], ["status"]):
            try:
                found = doors.answer(
                    ["spaces", *argv, "--store", place, "--preset", "smoke", "--json"]
                )
            except FrugalError as error:
                refusals.append(error)
                continue
            if case.data == kept and argv[0] == "report":
                unlike("another report", found, wanted)
            for stage in found["stages"]:
                for candidate in stage.get("candidates", ()):
                    for name in ("mean", "low", "high"):
                        value = candidate[name]
                        if value is not None and (
                            isinstance(value, bool) or not math.isfinite(value)
                        ):
                            raise Wrong(f"{name} is {value!r}")
                if stage["done"] > stage["runs"]:
                    raise Wrong(f"{stage['done']} of {stage['runs']} runs are done")
        if refusals:
            raise refusals[0]

    changed = changed_tree(kept, weighted)
    return Door(
        "spaces report", inputs(st.just(kept), changed, wild_tree(kept, weighted)), enter, 0.6
    )


# --- caches ------------------------------------------------------------------------------------


def cache_door(place):
    """A fetched artifact: "ok" means that every byte is right, and damage is fetched again."""
    members = {"model/config.json": b'{"a": 1}\n', "model/weights.bin": bytes(range(256))}
    shas = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    entry = artifacts.Artifact(
        project="thing", version="1.0", file="thing-1.0-py3-none-any.whl", sha256="0" * 64,
        bytes=999, members=shas, licence="none", citation="none",
    )  # fmt: skip
    manifest = {"sha256": entry.sha256, "members": {n: len(c) for n, c in members.items()}}
    kept = {**members, "manifest.json": mutate.dumps(manifest)}
    names = sorted(kept)
    home = place / "cache"

    def again(artifact, folder):
        put_tree(folder, kept)

    def enter(case):
        with (
            instead(artifacts, "pinned", lambda: {"thing": entry}),
            instead(artifacts, "home", lambda: home),
            instead(artifacts, "_fetch", again),
        ):
            folder = home / "artifacts" / "thing"
            put_tree(folder, case.data)
            whole = all(case.data.get(name) == content for name, content in members.items())
            said = artifacts.state("thing")
            if said == "ok" and not whole:
                raise Wrong("damage is said to be ok")
            if case.kind == "sound" and said != "ok":
                raise Wrong(f"a sound folder is said to be {said}")
            got = artifacts.get("thing")
            for name, content in members.items():
                if (got / name).stat().st_size != len(content):
                    raise Wrong("a member of another size is handed out")
            found = tree_of(artifacts.fetch("thing"))
            if any(found[name] != content for name, content in members.items()):
                raise Wrong("fetch leaves the damage")

    return Door(
        "caches", inputs(st.just(kept), changed_tree(kept, names), wild_tree(kept, names)), enter, 2
    )


def model_door(place):
    """A folder with a model: its weights are what the file holds, all of them, or it is refused."""
    place = place / "model"
    made = backbones.load("tiny-causal", device="cpu")
    with contextlib.redirect_stderr(io.StringIO()):
        made.model.save_pretrained(place / "sound")
        made.tokenizer.save_pretrained(place / "sound")
    kept = folder_of(place / "sound")
    names = sorted(kept)
    weights = doors.loaded(kept["model.safetensors"])

    @st.composite
    def changed(draw):
        if draw(st.integers(0, 3)):
            return draw(changed_tree(kept, names))
        how, found = draw(mutate.tensors(weights))
        return how, {
            **kept,
            "model.safetensors": doors.resaved(place, kept["model.safetensors"], found),
        }

    def enter(case):
        put_tree(place / "case", case.data)
        found = backbones.load(str(place / "case"), device="cpu")
        theirs = doors.loaded(case.data["model.safetensors"])
        own = found.model.state_dict()
        if "lm_head.weight" not in theirs:
            theirs["lm_head.weight"] = theirs["model.embed_tokens.weight"]  # tied
        for name, value in own.items():
            if name not in theirs or not torch.equal(value, theirs[name].to(value.dtype)):
                raise Wrong(f"weights that are not in the file: {name}")
            if not bool(value.isfinite().all()):
                raise Wrong(f"weights that are not finite: {name}")
            if not theirs[name].is_floating_point():
                raise Wrong(f"weights that are whole numbers: {name}")
        if lost := [c for c in string.printable.strip() if not found.tokenizer(c)["input_ids"]]:
            raise Wrong(f"text that no token stands for: {lost}")

    return Door(
        "model folders", inputs(st.just(kept), changed(), wild_tree(kept, names)), enter, 0.6
    )


MAKERS = {
    "checkpoints": checkpoint_door, "server answers": server_door, "ledgers of labels": ledger_door,
    "teacher outputs": outputs_door, "results": store_door, "spaces report": search_door,
    "caches": cache_door, "model folders": model_door,
}  # fmt: skip
