"""The doors: files and options of the classifier side. `more_doors` has those of runs and money."""

import ast
import contextlib
import copy
import csv
import functools
import io
import itertools
import json
import math
import re
import sys
import zipfile

import mutate
import nbformat
import safetensors.torch
import torch
import typer
from harness import Door, Wrong, inputs, quiet
from hypothesis import strategies as st

import peft as hf_peft
from frugal import cli, peft, tasks
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.spaces import design
from frugal_course.notebooks import execution, grid, parameters, reading

# Text that people have: several scripts, quotes, braces, no surrogates.
texts = st.text(
    st.sampled_from("abcXYZ 0159.,;|\"'{}<>&\t/\\éßñ한국어中文👍\u0301\u200b\ufeff\u2028\x85\x1c"),
    max_size=12,
)


def unlike(where, mine, theirs):
    """`Wrong` unless both readers agree."""
    if mine != theirs:
        raise Wrong(f"{where}: {ascii(mine)[:250]} is not {ascii(theirs)[:250]}")


# --- examples in files -------------------------------------------------------------------------


@st.composite
def records(draw):
    """A user's lines, as dicts; choices differ as tokens do, not in spaces and case alone."""
    found = []
    for _ in range(draw(st.integers(1, 5))):
        answers = draw(
            st.lists(
                st.sampled_from(["yes", "no", "긍정", "부정", "👍", "a|b", "c,d", 'e"f']),
                min_size=2,
                max_size=4,
                unique=True,
            )
        )
        label = draw(st.integers(0, len(answers) - 1))
        # A number in front keeps lines apart: what a line that stands twice means is another test.
        prompt = f"{len(found)} {draw(texts)}"
        found.append({"prompt": prompt, "choices": [f" {a}" for a in answers], "label": label})
    return found


@st.composite
def jsonl(draw, rows):
    """The lines as some tool writes them."""
    ascii_only, end = draw(st.booleans()), draw(st.sampled_from(["\n", "\r\n"]))
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    text = end.join(lines) + draw(st.sampled_from(["", end, end * 2]))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


@st.composite
def changed_jsonl(draw):
    rows = draw(records())
    if draw(st.booleans()):
        return draw(mutate.raw(draw(jsonl(rows))))
    how, rows = draw(mutate.document(rows))
    lines = rows if isinstance(rows, list) else [rows]
    return how, b"\n".join(mutate.dumps(line) for line in lines)


def slow_jsonl(content):
    """What a JSONL file says, by the book: (prompt, choices, label) of each line."""
    found = []
    for line in content.decode("utf-8").removeprefix("\ufeff").split("\n"):
        if not line.strip():
            continue
        record = json.loads(line)
        prompt, answers, label = record["prompt"], record["choices"], record["label"]
        sound = isinstance(prompt, str) and isinstance(answers, list) and len(answers) > 1
        sound = sound and all(isinstance(a, str) and a.strip() for a in answers)
        sound = sound and len(set(answers)) == len(answers)
        if not sound or type(label) is not int or not 0 <= label < len(answers):
            raise ValueError(f"no example: {line[:80]}")
        found.append((prompt, tuple(answers), label))
    return found


def read_examples(file):
    """The examples of a file, in its order, each once."""
    task = tasks.load(str(file))
    found = [(e.prompt, e.choices, e.label) for e in task.test()]
    if not found:
        raise Wrong("no example at all was accepted")
    for _, answers, label in found:
        if not 0 <= label < len(answers):
            raise Wrong(f"a label out of range: {label} of {len(answers)}")
    drawn = {(e.prompt, e.choices, e.label) for e in task.draw(task.drawable, 1)}
    unlike("a draw holds other examples than the file", drawn, set(found))
    return list(dict.fromkeys(found))


def enter_jsonl(place, case):
    file = place / "own.jsonl"
    file.write_bytes(case.data)
    found = read_examples(file)
    try:
        slow = list(dict.fromkeys(slow_jsonl(case.data)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Wrong(f"accepted, but it is not a file of examples: {error!r}") from error
    unlike("the file says something else", found, slow)


def jsonl_door(place):
    changed = changed_jsonl()
    return Door(
        "JSONL",
        inputs(records().flatmap(jsonl), changed, mutate.wild_bytes),
        functools.partial(enter_jsonl, place),
        2,
    )


@st.composite
def tabular(draw, rows):
    """The records as a table with prompt, choices (a JSON list) and label; and its ending."""
    ending = draw(st.sampled_from([".csv", ".tsv"]))
    out = io.StringIO()
    end = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(out, "excel-tab" if ending == ".tsv" else "excel", lineterminator=end)
    writer.writerow(["prompt", "choices", "label"])
    for row in rows:
        # Line ends within a cell are another reader's business.
        prompt = re.sub(r"[\n\r\t\x1c\x85\u2028]", " ", row["prompt"])
        writer.writerow([prompt, json.dumps(row["choices"], ensure_ascii=False), row["label"]])
    return ending, draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + out.getvalue().encode()


@st.composite
def changed_table(draw):
    ending, content = draw(records().flatmap(tabular))
    if draw(st.booleans()):
        how, content = draw(mutate.raw(content))
        return how, (ending, content)
    comma = "\t" if ending == ".tsv" else ","
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig")), delimiter=comma))
    line = draw(st.integers(0, len(rows) - 1))
    column = draw(st.integers(0, 2))
    how = draw(st.sampled_from(["remove", "extreme", "extreme", "add", "double"]))
    if how == "remove":
        del rows[line][column]
    elif how == "add":
        rows[line].insert(column, "more")
    elif how == "double":
        rows.insert(line, rows[line])
    else:
        value = draw(st.sampled_from([v for v in mutate.EXTREMES if v != "\ud800"]))
        rows[line][column] = str(value)
    out = io.StringIO()
    csv.writer(out, delimiter=comma).writerows(rows)
    return f"{how} at line {line}, column {column}", (ending, out.getvalue().encode())


def slow_table(ending, content):
    """(prompt, choices, label) of each row: choices a JSON list, or parted by |."""
    comma = "\t" if ending == ".tsv" else ","
    text = content.decode("utf-8").removeprefix("\ufeff")
    head, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=comma)
    head, found = [name.strip().lower() for name in head], []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        record = dict(zip(head, row, strict=True))
        cell = record["choices"]
        answers = json.loads(cell) if cell.lstrip().startswith("[") else cell.split("|")
        found.append((record["prompt"], [a.strip() for a in answers], record["label"].strip()))
    return found


def enter_table(place, case):
    ending, content = case.data
    file = place / f"own{ending}"
    file.write_bytes(content)
    try:
        found = read_examples(file)
    except FrugalError as error:
        if case.kind == "sound" and "unknown task" in str(error):
            return  # this version reads no tables
        raise
    head = content.decode("utf-8", "replace").removeprefix("\ufeff").partition("\n")[0].lower()
    if not {"prompt", "choices", "label"} <= set(re.split(r'[",;\t\r]+', head)):
        return  # the columns text and label, whose choices come from all lines
    try:
        slow = slow_table(ending, content)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise Wrong(f"accepted, but it is not a table of examples: {error!r}") from error
    slow = [(p, tuple(a), int(label) if label not in a else a.index(label)) for p, a, label in slow]
    mine = [(p.strip(), tuple(a.strip() for a in answers), y) for p, answers, y in found]
    theirs = [(p.strip(), a, y) for p, a, y in dict.fromkeys(slow)]
    unlike("the table says something else", mine, theirs)


def table_door(place):
    wild = st.tuples(st.sampled_from([".csv", ".tsv"]), mutate.wild_bytes)
    sound = records().flatmap(tabular)
    return Door(
        "CSV and TSV",
        inputs(sound, changed_table(), wild),
        functools.partial(enter_table, place),
        2,
    )


# --- adapters ----------------------------------------------------------------------------------

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def logits(model):
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        return model(input_ids=IDS, **more).logits


def folder_of(path):
    """Name and bytes of every file."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file()}


def put(folder, files):
    """Make `folder` hold these files alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.is_file():  # unlinked, not written over: somebody may have it mapped
            file.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def resaved(place, content, tensors):
    """A safetensors file like `content`, but with other tensors."""
    file = place / "about.safetensors"
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    with safetensors.safe_open(file, framework="pt") as opened:
        about = opened.metadata()
    whole = {name: value.contiguous().clone() for name, value in tensors.items()}
    return safetensors.torch.save(whole, about)


def loaded(content):
    """The tensors of a safetensors file; not mapped, so that the file can change meanwhile."""
    return safetensors.torch.load(content)


@st.composite
def changed_folder(draw, place, folders, *, tensors=True, config=True):
    """One of `folders` (files by name) with a mistake in its JSON or its safetensors."""
    files = dict(draw(st.sampled_from(folders)))
    kinds = [
        name
        for name in files
        if (tensors and "safetensors" in name) or (config and ".json" in name)
    ]
    name = draw(st.sampled_from(sorted(kinds)))
    how = draw(st.sampled_from(["raw", "inside", "inside"]))
    if how == "raw":
        how, files[name] = draw(mutate.raw(files[name]))
    elif name.endswith(".json"):
        how, document = draw(mutate.document(json.loads(files[name])))
        files[name] = mutate.dumps(document)
    else:
        how, changed = draw(mutate.tensors(loaded(files[name])))
        files[name] = resaved(place, files[name], changed)
    if draw(st.integers(0, 19)) == 0:
        how = f"{name} is not there"
        del files[name]
    return f"{name}: {how}", files


def _trained(model, name, options):
    """The method attached, with numbers that are nobody's start."""
    each = iter([model(input_ids=IDS, labels=IDS).loss])
    tuned = peft.attach(model, name, options, losses=each)
    generator = torch.Generator().manual_seed(7)
    for parameter in tuned.parameters():
        parameter.data.copy_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))
    return tuned


class Attaching:
    """A tiny model on which folders are tried; after each it must be what it was."""

    def __init__(self, place):
        self.folder, self.model = (
            place / "folder",
            backbones.load("tiny-causal", device="cpu").model,
        )

    def load(self, files):
        """Parameters and logits of what these files are."""
        put(self.folder, files)
        before = logits(self.model)
        try:
            tuned = peft.load(self.model, self.folder)
        except BaseException:
            self._same(before)
            raise
        try:
            found = {n: p.detach().clone() for n, p in tuned.named_parameters()}
            said = logits(self.model)
        finally:
            tuned.detach()
        self._same(before)
        return found, said

    def _same(self, before):
        if hasattr(self.model, "_frugal_tuned") or not torch.equal(logits(self.model), before):
            self.model = backbones.load("tiny-causal", device="cpu").model
            raise Wrong("the model is not what it was")


def finite(parameters):
    for name, value in parameters.items():
        if not bool(value.isfinite().all()):
            raise Wrong(f"numbers that are not finite: {name}")


OURS = {
    "ia3": {}, "lora": {"rank": 2}, "adapter": {"size": 2}, "prefix": {}, "bitfit": {}, "fish": {},
}  # fmt: skip


def adapter_door(place):
    """Folders of `Tuned.save`: whatever is accepted is what was saved, number by number."""
    place = place / "adapters"
    on, makers = Attaching(place), []
    for name, options in OURS.items():
        tuned = _trained(on.model, name, options)
        tuned.save(place / name)
        values = {n: p.detach().clone() for n, p in tuned.named_parameters()}
        said = logits(on.model)
        tuned.detach()
        makers.append((name, folder_of(place / name), values, said))

    def of(case):
        name, files = case.data
        return next(maker for maker in makers if maker[0] == name), files

    def enter(case):
        (_, sound, values, said), files = of(case)
        found, says = on.load(files)
        finite(found)
        for file in (f for f in files if f.endswith(".json")):
            extra = fields(json.loads(files[file])) - fields(json.loads(sound[file])) - KNOWN
            if extra:
                raise Wrong(f"an unknown field is let through: {sorted(extra)}")
        same = found.keys() == values.keys() and all(
            torch.equal(found[n], values[n]) for n in found
        )
        if not same:
            raise Wrong("other parameters than were saved")
        if not torch.equal(says, said):
            raise Wrong("other logits than were saved")

    changed = st.sampled_from(makers).flatmap(
        lambda maker: changed_folder(place, [maker[1]]).map(
            lambda found: (found[0], (maker[0], found[1]))
        )
    )
    sound = st.sampled_from(makers).map(lambda maker: (maker[0], maker[1]))
    wild = st.tuples(
        st.sampled_from(sorted(OURS)),
        st.fixed_dictionaries(
            {
                "adapter_config.json": mutate.wild_bytes,
                "adapter_model.safetensors": mutate.wild_bytes,
            }
        ),
    )
    return Door("adapter folders", inputs(sound, changed, wild), enter, 2)


def fields(document):
    """Names of the fields of a config, and of the objects in it, that say something."""
    if isinstance(document, dict):
        mine = {str(k) for k, value in document.items() if value not in SAYS_NOTHING}
        return mine.union(*map(fields, document.values()))
    if isinstance(document, list):
        return set().union(*map(fields, document))
    return set()


SAYS_NOTHING = (None, False, 0, "", [], {})  # a later version of a format may write such fields
# Fields that peft's own configurations of (IA)³ and LoRA have may stand there.
KNOWN = {f for kind in (hf_peft.IA3Config, hf_peft.LoraConfig) for f in kind().to_dict()}


def peft_door(place):
    """Folders that Hugging Face's peft wrote: what is accepted says what peft says."""
    place = place / "peft"
    on = Attaching(place)
    plain = copy.deepcopy(on.model)
    common = {"target_modules": ["k_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    makers = []
    for name, config in {
        "ia3": hf_peft.IA3Config(feedforward_modules=["down_proj"], **common),
        "lora": hf_peft.LoraConfig(r=2, lora_alpha=3, **common),
    }.items():
        with quiet():
            tuned = hf_peft.get_peft_model(copy.deepcopy(plain), config)
            generator = torch.Generator().manual_seed(3)
            for parameter in tuned.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.data.copy_(1 + 0.3 * noise)
            tuned.save_pretrained(place / name)
        makers.append({n: c for n, c in folder_of(place / name).items() if n != "README.md"})

    def peft_says(files):
        put(place / "theirs", files)
        with torch.random.fork_rng():
            torch.manual_seed(11)
            return logits(hf_peft.PeftModel.from_pretrained(copy.deepcopy(plain), place / "theirs"))

    with quiet():
        own = [peft_says(files) for files in makers]

    def enter(case):
        number, files = case.data
        found, says = on.load(files)
        finite(found)
        extra = fields(json.loads(files["adapter_config.json"])) - KNOWN
        if extra := extra - fields(json.loads(makers[number]["adapter_config.json"])):
            raise Wrong(f"an unknown field is let through: {sorted(extra)}")
        if torch.allclose(says, own[number], atol=1e-5):
            return
        try:
            theirs = peft_says(files)
        except Exception as error:
            raise Wrong(f"other logits, and peft refuses: {error!r}") from error
        if not (says.isfinite().all() or theirs.isfinite().all()):
            return  # 1e38 times something, in both; nothing can be scored with it
        if not torch.allclose(says, theirs, atol=1e-4):
            apart = (says - theirs).abs().max()
            raise Wrong(f"other logits, and peft has its own: {apart:.3g} apart")

    numbers = st.sampled_from(range(len(makers)))
    changed = numbers.flatmap(
        lambda i: changed_folder(place, [makers[i]]).map(lambda found: (found[0], (i, found[1])))
    )
    return Door("peft folders", inputs(numbers.map(lambda i: (i, makers[i])), changed), enter, 1)


def tfew_door(place):
    """T-Few's `.pt`: what is accepted is what torch reads there, and the archive is whole."""
    place = place / "pt"
    place.mkdir(parents=True, exist_ok=True)
    model = backbones.load("tiny-t5", device="cpu").model
    generator = torch.Generator().manual_seed(5)
    vectors = {
        f"{name}.multi_lora_b": 1 + 0.3 * torch.randn(module.out_features, 1, generator=generator)
        for name, module in model.named_modules()
        if re.search(r"Attention\.[kv]$|\.wi_1$", name)
    }

    def pt(value, old=False):
        out = io.BytesIO()
        torch.save(value, out, _use_new_zipfile_serialization=not old)
        return out.getvalue()

    sound = pt(vectors)
    strange = st.sampled_from(
        [
            None,
            3,
            [1],
            "x",
            vectors["decoder.block.0.layer.0.SelfAttention.k.multi_lora_b"],
            [vectors],
        ]
    )

    @st.composite
    def changed(draw):
        if draw(st.booleans()):
            return draw(mutate.raw(sound))
        if draw(st.integers(0, 9)) == 0:
            name, value = draw(st.sampled_from(sorted(vectors))), draw(strange)
            return f"{name} is {value!r}"[:80], pt({**vectors, name: value})
        how, found = draw(mutate.tensors(vectors))
        return how, pt(found, draw(st.booleans()))

    def enter(case):
        file = place / "vectors.pt"
        file.write_bytes(case.data)
        try:
            tuned = peft.load(model, file)
        except BaseException:
            if hasattr(model, "_frugal_tuned"):
                model._frugal_tuned.detach()
                raise Wrong("refused, but something stays attached") from None
            raise
        try:
            found = {n: p.detach().clone() for n, p in tuned.named_parameters()}
            logits(model)
        finally:
            tuned.detach()
        finite(found)
        theirs = torch.load(file, weights_only=True)
        wanted = sorted(v.flatten().tolist() for v in theirs.values())
        missing = found.keys() - {  # a vector that is not there stays at 1
            n for n, v in found.items() if v.flatten().tolist() in wanted
        }
        if any(bool((found[n] != 1).any()) for n in missing) or len(found) < len(wanted):
            raise Wrong("other vectors than the file's")
        if theirs.keys() - vectors.keys():
            raise Wrong(
                f"an unknown vector is let through: {sorted(theirs.keys() - vectors.keys())}"
            )
        same = theirs.keys() == vectors.keys() and all(
            torch.equal(theirs[n], vectors[n]) for n in vectors
        )
        if case.kind == "changed" and not same and zipfile.is_zipfile(file):
            with contextlib.closing(zipfile.ZipFile(file)) as archive:
                if archive.testzip() is not None:
                    raise Wrong("damaged vectors: the archive's checksum is wrong")

    wild = mutate.wild_bytes | strange.map(pt)
    return Door("T-Few .pt", inputs(st.just(sound), changed(), wild), enter, 2)


# --- designs -----------------------------------------------------------------------------------


@st.composite
def designs(draw):
    """A design as it is written."""
    parts, first = [], 1
    for number in range(1, draw(st.integers(1, 5)) + 1):
        last = first + draw(st.integers(0, 4))
        methods = draw(st.lists(st.sampled_from("APBL"), unique=True, max_size=4))
        if number == 1:
            methods = methods or ["A"]
        of = f"{first}-{last}" if last > first or draw(st.booleans()) else f"{first}"
        text = f"G{number}[{of}]:{','.join(methods) or '-'}"
        if methods and draw(st.booleans()):
            size = last - first + 1
            text += "@" + ",".join(
                map(str, draw(st.lists(st.integers(1, 9), min_size=size, max_size=size)))
            )
        parts.append(text)
        first = last + 1
    return draw(st.sampled_from([" | ", "|"])).join(parts)


@st.composite
def changed_design(draw):
    text = draw(designs())
    if draw(st.booleans()):
        how, changed = draw(mutate.raw(text.encode()))
        return how, changed.decode("utf-8", "surrogateescape")
    numbers = list(re.finditer(r"\d+", text))
    one = draw(st.sampled_from(numbers))
    new = draw(
        st.sampled_from(
            ["", "0", "-1", "1.5", "999999999", "9" * 400, "٣", "³", "1e3", "nan", "00", "１"]
        )
    )
    return f"{one[0]} becomes {new[:20]!r}", text[: one.start()] + new + text[one.end() :]


def slow_design(text):
    """(first, last, methods, shares) of each group, letter by letter, reduced by their divisor."""
    groups = []
    for part in text.split("|"):
        head, _, rest = part.strip().partition("]:")
        layers = [int(n) for n in head.partition("[")[2].split("-")]
        letters, _, given = rest.partition("@")
        methods = "".join(m for m in "APBL" if m in letters)
        count = layers[-1] - layers[0] + 1
        shares = [int(n) for n in given.split(",")] if given else [1] * count
        groups.append((layers[0], layers[-1], methods, shares if methods else []))
    divisor = math.gcd(*(n for g in groups for n in g[3]))
    return [(a, b, m, tuple(n // divisor for n in shares)) for a, b, m, shares in groups]


def enter_design(case):
    found = design.parse(case.data)
    if design.parse(str(found)) != found:
        raise Wrong(f"does not come back from its text: {found}")
    slow = slow_design(case.data)
    unlike(
        "the text says something else",
        [(g.first, g.last, g.methods, g.shares) for g in found.groups],
        slow,
    )
    if found.layers != sum(found.sizes) or not found.tuned_layers():
        raise Wrong(f"layers are missing: {found}")


def design_door(place):
    wild = st.text(st.sampled_from("G1234[]-:,|@APBLZ ٣x"), max_size=30) | st.text(max_size=20)
    return Door("design strings", inputs(designs(), changed_design(), wild), enter_design, 4)


# --- the command line --------------------------------------------------------------------------


get_command = functools.cache(typer.main.get_command)  # building all of it is most of the time


def command(*argv):
    """Status, stdout and stderr of a command in this process, encoded as a terminal encodes."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    before, sys.argv = sys.argv, ["frugal", *map(str, argv)]
    status = 0
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            instead(typer.main, "get_command", get_command),
        ):
            try:
                cli.main()
            except SystemExit as stop:
                status = stop.code or 0
    finally:
        sys.argv = before
        for stream in (out, err):
            stream.flush()
    return status, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()


NEVER_NEGATIVE = re.compile(r"flops|bytes|usd|params|tokens|seconds|count|gb|gib|runs|layers")


def strict(text):
    """JSON without NaN, whose counts and prices are no less than nothing."""

    def no(constant):
        raise Wrong(f"{constant} in the JSON of a command")

    value = json.loads(text, parse_constant=no)
    for path in mutate.walk(value):
        number = mutate.at(value, path)
        if isinstance(number, float) and not math.isfinite(number):
            raise Wrong(f"a number that is not finite: {'.'.join(map(str, path))}")
        named = [key for key in path if isinstance(key, str)]
        if (
            isinstance(number, int | float)
            and named
            and NEVER_NEGATIVE.search(named[-1])
            and number < 0
        ):
            raise Wrong(f"a negative number: {'.'.join(map(str, path))} is {number}")
    return value


# What the door says of exceptions that should have been named where they began.
LAST_RESORT = re.compile(
    r"frugal: (tensors could not|out of memory|a number is too large|text that is not UTF-8"
    r"|what was given is nested)"
)


def answer(argv):
    """What a command says as JSON; FrugalError where it refuses in one line."""
    status, out, err = command(*argv)
    mine = [line for line in err.splitlines() if not line.startswith("frugal: note:")]
    if status == 0:
        if "--help" in argv:
            return None
        lines = out.strip()
        return strict(lines) if "--json" in argv else None
    if bug := re.search(r"a bug of ours: (\w+): .*\((\S+:\d+)\)\. Please", err):
        raise Wrong(f"a bug, {bug[1]} at {bug[2]}: {err[-300:]}")
    if status != 2:
        raise Wrong(f"exit status {status}: {err[-300:]}")
    if unnamed := LAST_RESORT.match(err):
        raise Wrong(f"a line that names neither file nor option, {unnamed[1]}: {err[-300:]}")
    if len(mine) != 1 or not mine[0].startswith("frugal: ") or not mine[0][8:].strip():
        raise Wrong(f"a refusal of {len(mine)} lines: {err[-300:]!r}")
    raise FrugalError(mine[0])


NUMBERS = [
    *("-1", "0", "1", "3.5", "-0.0", "1e-320", "1e308", "1e400", "nan", "NaN", "inf", "-inf"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 400),
    *(
        "2147483647", "2147483648", "4294967295", "1" + "0" * 30, "0x10", "1_000", "٣", "+2", "1e3",
        ".5", "",
    ),
]  # fmt: skip
ODD = [
    *NUMBERS,
    *(" ", "x", "é", "👍", "\udce9", "a\nb", "{x}", "%s", "'", "--", "-p", "--json"),
    *("/", ".", "/nowhere/at/all", "n" * 300, "a" * 1500, "\x00", "smoke", "laptop", "lora", "ia3"),
    *("full", "exact", "paper", "t5-small", "bert-base", "S4", "null", "[]", "{}"),
]


def odd_for(old):
    """Something odd in the place of a value: of a number, mostly numbers."""
    return st.sampled_from(NUMBERS * 3 + ODD if number(old) else ODD)


def number(word):
    return word.replace(".", "").isdecimal()


def commands(place):
    """Sound commands that take little time, on files that are made here."""
    place.mkdir(parents=True, exist_ok=True)
    own = place / "own.jsonl"
    rows = [{"prompt": f"Thing {i}:", "choices": [" a", " bb"], "label": i % 2} for i in range(8)]
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    executed = place / "reports"
    executed.mkdir(exist_ok=True)
    (executed / "one.ipynb").write_text(json.dumps(executed_notebook()))
    lines = f"""
        costs query --arch t0-11b --shots 4 --example-tokens 98 --query-tokens 103 --count exact
        costs query --arch llama3-8b --query-tokens 10 --cached --shots 2
        costs train --arch t5-base --steps 10 --batch 8 --tokens 100 --method ia3 --count exact
        costs cache --arch t5-base --tokens 100 --dtype float16 --source-tokens 3 --batch 2
        costs adapter --arch t5-base --method lora --rank 4 --dtype float32
        costs memory --arch t5-base --tokens 100 --batch 8 --method ia3 --optimizer adamw
        costs labels --task fever --count 100
        costs compare --arch t0-11b --queries 1000 --shots 4 --steps 10 --gpu a100-80gb --mfu 0.4
        costs compare --arch t5-base --queries 10 --usd-per-hour 2 --batch 4 --dtype int8
        papers table tfew_table1
        spaces sample --stage S2 --layers 12 --count 3 --budget 0.005 --seed 1
        spaces sample --stage S4 --count 2 --budget 0.005 --arch t5-base
        budgets buy --task FEVER --budget 100 --labels 1000
        {LABEL} {own} --folder {place}/labels --cap 1 --count 5 --seed 1 --usd 0.1 --dry-run
        artifacts list vader
        tfew --dry-run --preset server --steps 9 --gpu a100-80gb --mfu 0.05 --usd-per-hour 2
        tfew {own} --backbone tiny-causal --dry-run --shots 4 --steps 3 --seed 1 --losses lm
        rank {own} --backbone tiny-causal --shots 2 --seed 1 --limit 3 --preset smoke
        claims {executed}
    """
    return [[*line.split(), "--json"] for line in lines.strip().splitlines()]


LABEL = "budgets label --by people"


@st.composite
def changed_command(draw, sound):
    argv = list(draw(st.sampled_from(sound)))
    options = [i for i, word in enumerate(argv) if word.startswith("--") and word != "--json"]
    values = [i for i in range(1, len(argv)) if not argv[i].startswith("--")]
    values += 2 * [i for i in values if number(argv[i])]
    how = draw(st.sampled_from(["value", "value", "value", "rename", "remove", "more", "double"]))
    if how == "value" and values:
        i = draw(st.sampled_from(values))
        new = draw(odd_for(argv[i]))
        if str(new).startswith("/") and argv[i - 1] in ("--folder", "--out"):
            new = "x"  # never a folder outside
        said, argv[i] = f"{argv[i - 1]} {new[:30]!r}", new
    elif how == "rename" and options:
        i = draw(st.sampled_from(options))
        argv[i] = said = argv[i] + draw(st.sampled_from(["x", "=", "=3", "=nan"]))
    elif how == "remove" and options:
        i = draw(st.sampled_from(options))
        said = f"no {argv[i]}"
        del argv[i]
    elif how == "double" and options:
        i = draw(st.sampled_from(options))
        said, argv = f"{argv[i]} twice", argv + argv[i : i + 2]
    else:
        new = draw(st.sampled_from(ODD))
        said = f"{new[:30]!r} as well"
        argv.append(new)
    return f"{' '.join(argv[:2])}: {said}", argv


def enter_command(place, case):
    found = answer(case.data)
    argv = case.data
    if found is None:
        return
    if argv[:2] == ["costs", "labels"]:
        usd = found["count"] * found["usd_per_label"]
        if not math.isclose(found["usd"], usd, rel_tol=1e-9):
            raise Wrong(f"the price of labels: {found}")
    if argv[:2] == ["spaces", "sample"]:
        for one in found["designs"]:
            if not 0 < one["params"] <= 1.05 * found["budget"] + 1:
                raise Wrong(f"a design beyond the budget: {one['params']} of {found['budget']}")
    if argv[0] == "rank" and not 0 <= found["accuracy"] <= 1:
        raise Wrong(f"an accuracy of {found['accuracy']}")


def command_door(place, only=""):
    """only: how the commands begin that are sent"""
    place = place / "commands"
    sound = [argv for argv in commands(place) if " ".join(argv).startswith(only)]
    wild = st.lists(
        st.sampled_from([*ODD, "costs", "query", "rank", "spaces", "run", "--arch"]), max_size=5
    )
    wild = wild.filter(
        lambda argv: not {"tfew", "plan", "figure2", "table1", "vectors"} & set(argv)
    )
    return Door(
        "CLI options",
        inputs(st.sampled_from(sound), changed_command(sound), wild),
        functools.partial(enter_command, place),
        1.5,
    )


# --- notebooks and their parameters --------------------------------------------------------------

DECLARED = """\
preset: str = "smoke"  # a preset
shots: int = 4  # examples
rate: float = 0.5  # a number
cached: bool = True  # a switch
seeds: list = [0, 1]  # several
plain = 8
"""
KINDS = {"preset": str, "shots": int, "rate": float, "cached": bool, "seeds": list, "plain": int}
MIME = "application/vnd.frugal.claims+json"


def blank_notebook():
    cell = nbformat.v4.new_code_cell(DECLARED, id="parameters", metadata={"tags": ["parameters"]})
    cells = [cell, nbformat.v4.new_code_cell("print(shots)", id="body")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed_notebook():
    found = blank_notebook()
    claims = [{"claim": "Double", "paper": "–", "measured here": "8"}]
    data = {MIME: claims, "text/plain": "Double"}
    found.cells[1].outputs = [nbformat.v4.new_output("display_data", data=data)]
    found.cells[1].execution_count = 1
    return json.loads(nbformat.writes(found))


VALUES = ["3", "-3", "007", "3.0", "5.", "0.25", "True", "true", "TRUE", "yes", "[1, 2]", "[NaN]"]
no_numbers = st.sampled_from(["nan", "NaN", "inf", "-inf", "1e400"])
values_text = no_numbers | st.sampled_from(NUMBERS * 2 + VALUES + ODD) | st.text(max_size=6)


def literal(text, kind):
    """The number (an int or a float) that a text is in Python, or by itself; NaN where none."""
    for read in (ast.literal_eval, int, float):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, OverflowError):
            found = read(text.strip())
            if type(found) in (int, kind):
                return kind(found)
    return math.nan


def as_declared(name, text, value, where):
    """`Wrong` unless `value` is what `text` says in the type of the parameter."""
    kind = KINDS[name]
    good = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if good and kind in (int, float):
        good = math.isfinite(value) and value == literal(text, kind)
    elif good and kind is bool:
        good = text.strip().lower() == str(value).lower()
    elif good and kind is str:
        good = value == text
    elif good:
        good = all(not isinstance(v, float) or math.isfinite(v) for v in value)
    if not good:
        raise Wrong(f"{where}: {name} is set by {text!r} to {value!r}")


@contextlib.contextmanager
def instead(module, name, value):
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


class Runs:
    """`frugal run` up to the point where a notebook would be executed."""

    def __init__(self, place):
        self.place = place / "run"
        self.place.mkdir(parents=True, exist_ok=True)
        self.file = self.place / "own.ipynb"
        nbformat.write(blank_notebook(), self.file)
        self.values, self.points = None, None

    def __call__(self, *words):
        import pandas as pd

        self.values = self.points = None

        def run(notebook, out, given, *rest, **more):
            self.values = parameters.declared(reading.read(notebook), notebook).values(given)
            return self.file

        def run_grid(of, out, **more):
            self.points = of.points
            return pd.DataFrame({"notebook": [str(self.file)] * len(of.points)})

        with instead(execution, "run", run), instead(grid, "run", run_grid):
            return answer(["run", self.file, *words, "--out", self.place / "out", "--json"])


def sound_value(name):
    return {
        "preset": st.sampled_from(["smoke", "laptop"]),
        "shots": st.integers(0, 10**6).map(str),
        "rate": st.floats(allow_nan=False, allow_infinity=False).map(repr),
        "cached": st.sampled_from(["true", "false", "True", "False"]),
        "seeds": st.lists(st.integers(0, 9), max_size=3).map(str),
        "plain": st.integers(0, 99).map(str),
    }[name]


NAMES = st.sampled_from(sorted(KINDS))


def parameter_door(place):
    run = Runs(place)
    annotated = st.sampled_from(sorted(set(KINDS) - {"plain"}))
    sound = annotated.flatmap(lambda name: st.tuples(st.just(name), sound_value(name)))
    sound = sound.map(lambda pair: ["-p", *pair])

    @st.composite
    def changed(draw):
        words = list(draw(sound))
        how = draw(st.sampled_from(["value", "value", "value", "name", "drop", "twice", "more"]))
        if how == "value":
            words[1], words[2] = draw(NAMES), draw(values_text)
        elif how == "name":
            words[1] = draw(mutate._renamed(words[1]))
        elif how == "drop":
            del words[draw(st.integers(0, 2))]
        elif how == "twice":
            words *= 2
        else:
            words.insert(draw(st.integers(0, 3)), draw(st.sampled_from(ODD)))
        return how, words

    def enter(case):
        run(*case.data)
        if run.values is None:
            return
        given = dict(zip(case.data[1::3], case.data[2::3], strict=False))
        for name, value in run.values.items():
            if name in given:
                as_declared(name, given[name], value, "-p")

    return Door("-p values", inputs(sound, changed()), enter, 1)


def grid_door(place, annotated=("shots", "rate", "cached", "preset")):
    """annotated: parameters of the notebook that are varied"""
    run = Runs(place)

    @st.composite
    def sound(draw):
        names = draw(st.lists(st.sampled_from(annotated), unique=True, min_size=1, max_size=2))
        return {
            n: draw(st.lists(sound_value(n), min_size=1, max_size=3, unique_by=str.lower))
            for n in names
        }

    @st.composite
    def changed(draw):
        values = draw(sound())
        name = draw(st.sampled_from(sorted(values)))
        how = draw(st.sampled_from(["value", "value", "value", "name", "empty", "twice"]))
        if how == "value":
            values[name].append(draw(values_text.filter(lambda text: "," not in text)))
        elif how == "name":
            values[draw(mutate._renamed(name))] = values.pop(name)
        elif how == "empty":
            values[name] = []
        else:
            values[name] *= 2
        return f"{how} of {name}", values

    def enter(case):
        words = [w for n, v in case.data.items() for w in ("--grid", f"{n}={','.join(v)}")]
        run(*words)
        if run.points is None:
            raise Wrong("accepted, but nothing would run")
        wanted = list(itertools.product(*(dict.fromkeys(v) for v in case.data.values())))
        once = [dict(t) for t in dict.fromkeys(tuple(p.items()) for p in map(_plain, run.points))]
        if len(once) > len(wanted):
            raise Wrong(f"{len(once)} points of {len(wanted)}")
        for point in run.points:
            for name, texts_of in case.data.items():
                fits = []
                for text in texts_of:
                    with contextlib.suppress(Wrong):
                        as_declared(name, text.strip(), point[name], "--grid")
                        fits.append(text)
                if not fits:
                    raise Wrong(f"--grid: {name} is {point[name]!r}, of {texts_of!r}"[:200])

    return Door("--grid values", inputs(sound(), changed()), enter, 1)


def _plain(point):
    return {name: json.dumps(value) for name, value in point.items()}


def notebook_door(place):
    """Notebooks given to the reader of parameters, and to `frugal claims`."""
    place = place / "notebooks"
    (place / "reports").mkdir(parents=True, exist_ok=True)
    whole = executed_notebook()

    @st.composite
    def changed(draw):
        if draw(st.integers(0, 2)) == 0:
            return draw(mutate.raw(json.dumps(whole, indent=1).encode()))
        how, document = draw(mutate.document(whole))
        return how, mutate.dumps(document)

    def enter(case):
        file = place / "reports" / "own.ipynb"
        file.write_bytes(case.data)
        refusals = []
        for ask in (
            lambda: parameters.declared(reading.read(file), file).values(
                {"shots": "7", "rate": "0.25"}
            ),
            lambda: answer(["claims", place / "reports", "--json"]),
        ):
            try:
                found = ask()
            except FrugalError as error:
                refusals.append(error)
                continue
            if "claims" in found:
                wanted = {"claim", "paper", "measured here"}
                if any(not wanted <= record.keys() for record in found["claims"]):
                    raise Wrong(f"a claim lacks a column: {found['claims']}")
                continue
            unlike("parameters", found, {"shots": 7, "rate": 0.25})
            cells = json.loads(case.data.decode("utf-8-sig"))["cells"]
            source = "".join(
                next(c["source"] for c in cells if "parameters" in c["metadata"].get("tags", []))
            )
            for name in found:
                if not re.search(rf"^\s*{name}\s*(:.*)?=", source, re.MULTILINE):
                    raise Wrong(f"a parameter that is not declared: {name}")
        if refusals:
            raise refusals[0]

    sound = st.just(mutate.dumps(whole))
    return Door("notebooks", inputs(sound, changed(), mutate.wild_bytes), enter, 1)


MAKERS = {
    "JSONL": jsonl_door, "CSV and TSV": table_door, "adapter folders": adapter_door,
    "peft folders": peft_door, "T-Few .pt": tfew_door, "design strings": design_door,
    "CLI options": command_door, "-p values": parameter_door, "--grid values": grid_door,
    "notebooks": notebook_door,
}  # fmt: skip
