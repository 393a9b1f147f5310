"""Cut, flipped and lost files, kills and full disks: nothing is computed from a damaged state."""

import errno
import json
import os
import random
import re
import time

import pytest
import tiny_jobs
import torch
from safetensors.torch import load_file, save_file

from children import Child, die
from frugal.budgets import distill
from frugal.engine import (
    artifacts,
    backbones,
    checkpoints,
    derived,
    digests,
    files,
    nano,
    runs,
    sweep,
)
from frugal.engine.checkpoints import Checkpoint
from frugal.engine.runs import RunSpec, Store
from frugal.errors import FrugalError
from frugal.tasks import Example


def flipped(content, bit):
    raw = bytearray(content)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)


def contents(store):
    return {p.parent.name: p.read_bytes() for p in store.folder.glob("runs/*/result.json")}


BROKEN = ["", "null", "{}", "[]", "1", '"x"', "{", '{"score": NaN}', '{"score": 1e999}']
BROKEN += ['{"score": null}', '{"score": true}', '{"score": 0.5}', '{"score": 0.5, "more"']
BROKEN += ["\ufeff{}", "[" * 99999]


@pytest.mark.parametrize("text", BROKEN)
def test_a_damaged_result_is_computed_again(store, journal, text):
    specs = tiny_jobs.draws(2, journal)
    table = sweep.run(specs, store)
    before = contents(store)
    (store.path(specs[0].id) / "result.json").write_text(text)
    assert not store.done(specs[0].id)
    assert sweep.status(store)["state"].tolist().count("done") == 1
    with pytest.raises(FrugalError, match=r"result.json: cannot be read .*next sweep"):
        sweep.collect(store, specs)
    again = sweep.run(specs, store)
    assert journal.read_text().split() == ["0", "1", "0"]
    assert contents(store) == before
    assert again["score"].tolist() == table["score"].tolist()


def test_every_flipped_bit_of_a_result_is_noticed_or_changes_nothing(store, journal):
    (spec,) = tiny_jobs.draws(1, journal)
    sweep.run([spec], store)
    file, true = store.path(spec.id) / "result.json", store.result(spec.id)
    whole = file.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), 300):
        file.write_bytes(flipped(whole, bit))
        assert not store.done(spec.id) or store.result(spec.id) == true
    for cut in range(0, len(whole) - 2, 7):
        file.write_bytes(whole[:cut])
        assert not store.done(spec.id)


@pytest.mark.parametrize("text", [None, *BROKEN[:8], '{"started": "", "seconds": NaN, "host": ""}'])
def test_a_result_without_its_machine_is_computed_again(store, journal, text):
    specs = tiny_jobs.draws(1, journal)
    sweep.run(specs, store)
    file = store.path(specs[0].id) / "machine.json"
    file.write_text(text) if text is not None else file.unlink()
    assert sweep.run(specs, store)["seconds"].item() >= 0
    assert journal.read_text().split() == ["0", "0"]


@pytest.mark.parametrize("text", [*BROKEN, '{"key": 2, "job": "os:getcwd"}', '{"key": 9}'])
def test_a_damaged_spec_is_refused_and_written_again_by_a_sweep(store, journal, text):
    specs = tiny_jobs.draws(2, journal)
    sweep.run(specs, store)
    before = contents(store)
    file = store.path(specs[0].id) / "spec.json"
    whole = file.read_bytes()
    file.write_text(text)
    with pytest.raises(FrugalError, match=r"spec.json: "):
        store.specs()
    sweep.run(specs, store)
    assert file.read_bytes() == whole
    assert contents(store) == before
    assert journal.read_text().split() == ["0", "1"]


def test_a_full_disk_keeps_what_is_done(store, journal, monkeypatch):
    specs = tiny_jobs.draws(4, journal)
    real, left = os.replace, [0]

    def replace(source, target):
        if str(target).endswith("result.json"):
            left[0] += 1
            if left[0] == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(FrugalError, match=r"store: the disk is full; the runs that are done are"):
        sweep.run(specs, store)
    assert [store.done(s.id) for s in specs] == [True, True, False, False]
    assert not list(store.folder.rglob(".*~*"))  # nothing half-written is left
    assert len(sweep.run(specs, store)) == 4
    assert journal.read_text().split() == ["0", "1", "2", "2", "3"]


def test_without_a_lock_two_sweeps_compute_the_same(store, journal, monkeypatch):
    monkeypatch.setattr(runs.FileLock, "acquire", lambda self, *_, **__: self)
    monkeypatch.setattr(runs.FileLock, "release", lambda self, *_, **__: None)
    specs = tiny_jobs.draws(3, journal)
    (first, *_) = specs
    store.add(specs)
    store.compute(first)
    before = contents(store)
    Store(store.folder).compute(first)  # which saw no lock
    sweep.run(specs, store)
    assert contents(store).items() >= before.items()
    assert len(sweep.collect(store)) == 3


# Checkpoints


def training(folder, of="one"):
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.arange(p.numel(), dtype=torch.float32).view(p.shape))
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoint(folder / "training.safetensors", {"recipe": of}), parameters, optimizer


@pytest.fixture
def kept(tmp_path):
    state, parameters, optimizer = training(tmp_path)
    state.keep(parameters, optimizer, [0.5, 0.25], 3.0)
    return state.file


def snapshot(parameters, optimizer):
    state = optimizer.state_dict()["state"]
    return [p.detach().clone() for p in parameters.values()] + [
        value.clone() for entries in state.values() for _, value in sorted(entries.items())
    ]


def test_a_checkpoint_gives_back_what_it_kept(kept):
    state, parameters, optimizer = training(kept.parent)
    before = snapshot(parameters, optimizer)
    with torch.no_grad():
        for p in parameters.values():
            p.zero_()
    assert state.restore(parameters, optimizer) == ([0.5, 0.25], 3.0)
    assert all(map(torch.equal, snapshot(parameters, optimizer), before))


def test_every_flipped_bit_and_cut_of_a_checkpoint_is_refused_and_takes_nothing_up(kept):
    whole = kept.read_bytes()
    state, parameters, optimizer = training(kept.parent)
    with torch.no_grad():
        for p in parameters.values():
            p.fill_(7.0)
    before = snapshot(parameters, optimizer)
    bits = random.Random(0).sample(range(8 * len(whole)), 250)
    damaged = [flipped(whole, bit) for bit in bits] + [whole[:n] for n in range(0, len(whole), 97)]
    for content in damaged:
        kept.write_bytes(content)
        with pytest.raises(FrugalError, match=re.escape(str(kept))):
            state.restore(parameters, optimizer)
        assert all(map(torch.equal, snapshot(parameters, optimizer), before))


@pytest.mark.parametrize("lost", ["parameter/weight", "loss", "seconds", "optimizer/0/exp_avg"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(kept, lost):
    from safetensors import safe_open

    with safe_open(kept, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(kept)
    del tensors[lost]
    save_file(tensors, kept, metadata=about)
    state, parameters, optimizer = training(kept.parent)
    with pytest.raises(FrugalError, match=r"damaged.*remove it to begin this training anew"):
        state.restore(parameters, optimizer)
    about["sha256"] = checkpoints.digest(tensors, about)
    save_file(tensors, kept, metadata=about)
    if not lost.startswith("optimizer"):
        with pytest.raises(FrugalError, match=r"other tensors than this training"):
            state.restore(parameters, optimizer)
    del about["sha256"]
    save_file(tensors, kept, metadata=about)
    with pytest.raises(FrugalError, match=r"has no digest"):
        state.restore(parameters, optimizer)


def test_a_full_disk_keeps_the_last_state(kept, monkeypatch):
    whole = kept.read_bytes()
    state, parameters, optimizer = training(kept.parent)

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise checkpoints.SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(FrugalError, match=r"the disk is full; the last state of the training"):
        state.keep(parameters, optimizer, [0.1], 1.0)
    assert kept.read_bytes() == whole
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]


def test_every_flipped_bit_of_a_teachers_outputs_is_refused(tmp_path):
    class Teacher:
        def fingerprint(self):
            return "one"

        def logits(self, examples):
            return torch.arange(4.0).view(2, 2), distill.Cost(1.5, 7, 9.0)

    examples = [Example(prompt=p, choices=(" a", " b"), label=0) for p in "xy"]
    table, cost = distill.outputs(Teacher(), examples, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), 200):
        file.write_bytes(flipped(whole, bit))
        with pytest.raises(FrugalError, match=re.escape(str(file))):
            distill.outputs(Teacher(), examples, tmp_path)
    file.write_bytes(whole)
    again, same = distill.outputs(Teacher(), examples, tmp_path)
    assert (torch.equal(again, table), same) == (True, cost)


# What a kill leaves


def dead_process():
    process = Child(lambda: None)
    process.wait()
    return process.number


def test_what_dead_processes_left_is_swept_and_what_others_make_is_not(tmp_path):
    mine = files._HOST
    dead = [f".a~{mine}~{dead_process()}~x1", f".b.json~{mine}~{dead_process()}~0"]
    alive = [f".a~{mine}~{os.getpid()}~x2", ".a~elsewhere~1~x3", "a", ".hidden", "a~b~c~d"]
    old = [".a~elsewhere~1~old"]
    for name in dead + alive + old:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    past = time.time() - 2 * files.DAY
    os.utime(tmp_path / old[0], (past, past))
    files.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(alive)
    files.sweep(tmp_path / "none")


def test_whoever_writes_to_a_folder_clears_what_dead_processes_left_there(tmp_path):
    left = tmp_path / f".frugal~{files._HOST}~{dead_process()}~x1"
    (left / "table.csv").mkdir(parents=True)
    files.write(tmp_path / "other.txt", "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["other.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    place = tmp_path / "it"
    for text in ("one", "two"):
        with files.staged_folder(place) as fresh:
            (fresh / "file").write_text(text)
        assert (place / "file").read_text() == text
    with pytest.raises(FileNotFoundError), files.staged_folder(place) as fresh:
        (fresh / "none" / "file").write_text("half")
    assert [p.name for p in tmp_path.iterdir()] == ["it"]
    assert (place / "file").read_text() == "two"


# The model that is made of an artifact


@pytest.fixture
def made(monkeypatch):
    """An artifact that is here, and what makes a model of it: 60 bytes."""
    calls = []

    def dequantise(place):
        calls.append(place)
        (place / "model.safetensors").write_bytes(b"weights " * 5)
        (place / "config.json").write_bytes(b"{}" * 10)

    monkeypatch.setattr(artifacts, "get", lambda name: artifacts.home())
    monkeypatch.setattr(artifacts, "_state", lambda name: "ok")
    monkeypatch.setitem(derived.MADE, "smollm2-135m", dequantise)
    return calls


NAME = "smollm2-135m"


def test_a_model_is_made_once_and_verified(made):
    assert derived.state(NAME) == "absent"
    assert artifacts.state(NAME) == "ok"  # it is made when it is wanted
    folder = derived.folder(NAME)
    assert derived.folder(NAME) == folder == artifacts.home() / "models" / NAME
    assert (len(made), derived.state(NAME), artifacts.state(NAME)) == (1, "ok", "ok")


DAMAGES = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "flipped": lambda file: file.write_bytes(flipped(file.read_bytes(), 77)),
    "lost": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_model_is_not_loaded_and_fetch_mends_it(made, damage, name, frugal):
    folder = derived.folder(NAME)
    whole = {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}
    DAMAGES[damage](folder / name)
    with pytest.raises(
        FrugalError, match=rf"{NAME}: damaged, {name} .*`frugal artifacts fetch {NAME}` mends it"
    ):
        derived.folder(NAME)
    with pytest.raises(FrugalError, match="damaged"):
        backbones.load(NAME)
    assert artifacts.state(NAME) == "corrupt"
    status, _, err = frugal("artifacts", "verify", NAME)
    assert (status, f"{NAME} is corrupt" in err) == (2, True)
    status, out, _ = frugal("artifacts", "fetch", NAME, "--json")
    assert (status, json.loads(out)["artifacts"][0]["state"]) == (0, "ok")
    assert derived.folder(NAME) == folder
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name in whole} == whole
    assert len(made) == 2


@pytest.mark.parametrize("text", ["", "null", "{}", '{"source": 1, "members": {}}', "{"])
def test_a_damaged_manifest_is_mended_too(made, text):
    folder = derived.folder(NAME)
    (folder / artifacts.MANIFEST).write_text(text)
    with pytest.raises(FrugalError, match=r"its manifest cannot be read.*fetch"):
        derived.folder(NAME)
    assert artifacts.state(NAME) == "corrupt"
    artifacts.fetch(NAME)
    assert derived.state(NAME) == "ok"
    assert len(made) == 2


def test_a_flip_that_leaves_the_files_times_is_found_by_verify(made, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    folder = derived.folder(NAME)
    derived.folder(NAME)  # which has seen the files as they are
    seen = json.loads((folder / artifacts.SEEN).read_text())
    read = []
    real = digests.read
    monkeypatch.setattr(digests, "read", lambda path: read.append(path.name) or real(path))
    derived.folder(NAME)
    assert read == []
    (folder / "config.json").write_bytes(b"[]" * 10)
    monkeypatch.setattr(digests, "stamp", lambda path: seen[path.name])
    derived.folder(NAME)  # as of a disk that rots: nothing tells
    assert derived.state(NAME) == "corrupt"


def test_what_earlier_versions_made_is_made_again(made):
    folder = artifacts.home() / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"whatever")
    assert artifacts.state(NAME) == "ok"
    derived.folder(NAME)
    assert (folder / "model.safetensors").read_bytes() == b"weights " * 5


def test_another_pin_makes_another_model(made, monkeypatch):
    derived.folder(NAME)
    monkeypatch.setattr(derived.digests, "pin", lambda name: "another")
    derived.folder(NAME)
    assert (len(made), derived.state(NAME)) == (2, "ok")


def test_what_a_killed_start_left_is_gone_after_the_next(made):
    place = artifacts.home() / "models" / NAME
    place.parent.mkdir(parents=True)

    def killed():
        with files.staged_folder(place) as fresh:
            (fresh / "half").write_text("half")
            die()

    assert Child(killed).wait() < 0
    assert len(list(place.parent.iterdir())) == 1
    derived.folder(NAME)
    assert [p.name for p in place.parent.iterdir()] == [NAME]


def test_a_full_disk_leaves_no_half_a_model(made, monkeypatch):
    def full(place):
        (place / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setitem(derived.MADE, NAME, full)
        with pytest.raises(FrugalError, match=r"the disk is full.*FRUGAL_HOME"):
            derived.folder(NAME)
    assert not list((artifacts.home() / "models").iterdir())
    derived.folder(NAME)


def test_nano_t0_that_is_not_what_was_saved_is_refused(tmp_path, monkeypatch):
    parts = {"decoder.weight": torch.nn.Parameter(torch.ones(4))}
    monkeypatch.setattr(nano, "trained", lambda model: parts)
    monkeypatch.setattr(nano, "build", lambda: (torch.nn.Linear(1, 1), None))
    nano.save(torch.nn.Linear(1, 1), tmp_path, {})
    file = tmp_path / nano.WEIGHTS
    file.write_bytes(flipped(file.read_bytes(), 8 * file.stat().st_size - 3))
    with pytest.raises(FrugalError, match=r"beyond_base.safetensors: damaged"):
        nano.load(tmp_path)


def test_a_spec_of_a_job_that_is_gone_fails_alone(store):
    gone = RunSpec(job="tiny_jobs:gone")
    with pytest.raises(FrugalError, match="1 of 2 runs failed"):
        sweep.run([gone, RunSpec(job="tiny_jobs:returns", params={"value": 1})], store)
    assert sweep.status(store)["state"].tolist().count("done") == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": NaN}', "NaN is no number"), ("[1e999]", "1e999 is no number"),
        (f"[{2**64}]", "is no number"), (f"[{'9' * 5000}]", "is no number"),
        ('["\\ud800"]', "surrogates not allowed"), ('{"\\uDCFF": 1}', "surrogates not allowed"),
        ("[" * 10**5, "nested too deeply"), ("", "Expecting value"),
    ],
)  # fmt: skip
def test_json_that_could_not_be_written_again_is_not_read(tmp_path, text, why):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=why):
        files.read_json(tmp_path / "x.json")


def test_json_of_others_is_read_as_it_is(tmp_path):
    said = {"é": [1, -(2**63), 2**64 - 1, 0.5, None, True], "👍": "C:\\udder \u2028"}
    for text in (json.dumps(said), json.dumps(said, ensure_ascii=False)):
        (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert files.read_json(tmp_path / "x.json") == said


@pytest.mark.parametrize("said", ["\ud800", float("nan"), 2**70])
def test_a_result_that_could_not_be_read_again_is_not_kept(said):
    spec = RunSpec(job="tiny_jobs:add")
    with pytest.raises(ValueError, match=r"allowed|number|JSON"):
        runs._checked(spec, {"score": 1.0, "said": said})
