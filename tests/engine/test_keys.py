"""A stored result's key holds all that the result depends on; keys of before are only reported."""

import hashlib
import json
import subprocess
import sys

import nbformat
import pytest
import torch
from tokenizers import normalizers

from frugal import data, tasks
from frugal.engine import backbones, digests, presets, runs, sweep, tiny
from frugal.engine.runs import RunSpec, Store
from frugal.errors import FrugalError
from frugal.fewshot import figure2, tfew
from frugal.spaces import rivals, search, train
from frugal.spaces.search import Search, Settings
from frugal.tasks import sources, texts
from frugal_course.notebooks import execution, grid, parameters, reading

LINES = [
    {"prompt": f"{n} is", "choices": [" even", " odd"], "label": n % 2} for n in range(20)
]  # fmt: skip


def write_task(file, lines=LINES):
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "own.jsonl")


@pytest.fixture
def model(tmp_path):
    """The folder of a small encoder."""
    folder = tmp_path / "encoder"
    built = backbones.load("tiny-encoder", device="cpu")
    built.model.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)
    return folder


def settings(task, model, **changes):
    values = {
        "backbone": str(model),
        "arch": "minilm-l6",
        "tasks": (str(task),),
        "labels": 6,
        "limit": 4,
        "designs": 1,
        "last_designs": 1,
        "budget": 0.2,
        "recipe": {"epochs": 1, "batch_size": 4, "max_tokens": 16},
        "until": "S0",
        "flops_per_second": 1e9,
        "preset": "smoke",
    }
    return Settings(**values | changes)


def test_every_own_job_has_a_name_that_its_place_does_not_decide():
    for name, module in runs.HOMES.items():
        runs.find(name)
        assert runs.JOBS[name].function.__module__ == module
        assert runs.JOBS[name].inputs is not None
    ours = ("frugal.", "frugal_course.")
    own = {name for name, job in runs.JOBS.items() if job.function.__module__.startswith(ours)}
    assert own == set(runs.HOMES)


def test_ids_are_fixed_for_good():
    # Whoever changes these orphans every store there is.
    spec = RunSpec(job="spaces.finetune", params={"a": 1, "é": [2.5]}, inputs={"task": "0"})
    text = '{"inputs":{"task":"0"},"job":"spaces.finetune","key":2,"params":{"a":1,"é":[2.5]}}'
    assert spec.id == hashlib.sha256(text.encode()).hexdigest()[:16]
    former = RunSpec(key=1, job="spaces.finetune", params={"a": 1})
    text = '{"job":"frugal.spaces.train:finetune","params":{"a":1}}'
    assert former.id == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "change",
    [
        {"job": "figure2.score"},
        {"params": {"backbone": "other"}},
        {"inputs": {"backbone": "0", "task": "2"}},
        {"inputs": {"backbone": "0"}},
        {"inputs": {"task": "0", "backbone": "1"}},
    ],
)
def test_each_part_of_a_spec_changes_its_id(change):
    whole = {"job": "spaces.finetune", "params": {}, "inputs": {"backbone": "0", "task": "1"}}
    assert RunSpec(**whole).id != RunSpec(**whole | change).id


def test_who_asked_and_where_it_runs_do_not():
    one = RunSpec(job="j", params={"a": 1})
    assert one.id == RunSpec(job="j", params={"a": 1}, preset="smoke", num_gpus=0.5).id


def of_search(task, model, tmp_path):
    return [s.id for s in Search(settings(task, model), Store(tmp_path / "s")).specs("S0", SPACE)]


def of_rivals(task, model, tmp_path):
    wanted = rivals.specs(settings(task, model), {"s4": {}}, 1)
    return [s.id for s in wanted["s4"]]


def of_figure2(task, model, tmp_path):
    chosen = presets.named("smoke", backbone=str(model))
    return [s.id for s in figure2.specs(chosen, chosen.figure2.given(task=str(task)))]


def of_notebook(task, model, tmp_path):
    notebook = tmp_path / "nb.ipynb"
    source = f'preset: str = "smoke"\nmodel: str = "{model}"\ntask: str = ""\nbudget: float = 1.0\n'
    cell = nbformat.v4.new_code_cell(source, id="p", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), notebook)
    return [s.id for s in grid.grid(notebook, {"task": task.name}, {"budget": ["1", "2"]}).specs]


SPACE = search.Space(6)
KINDS = [of_search, of_rivals, of_figure2, of_notebook]


@pytest.mark.parametrize("ids", KINDS)
def test_an_edited_file_is_another_run_and_the_old_text_the_old_one(ids, task, model, tmp_path):
    first = ids(task, model, tmp_path)
    assert ids(task, model, tmp_path) == first
    write_task(task, [{**line, "label": 1 - line["label"]} for line in LINES])
    second = ids(task, model, tmp_path)
    assert not set(first) & set(second)
    write_task(task)
    assert ids(task, model, tmp_path) == first


@pytest.mark.parametrize("ids", KINDS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_another_model_in_the_folder_is_another_run(ids, name, task, model, tmp_path):
    first = ids(task, model, tmp_path)
    raw = bytearray((model / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (model / name).write_bytes(raw)
    assert not set(first) & set(ids(task, model, tmp_path))


def test_another_definition_or_corpus_of_a_named_task_is_another_run(monkeypatch):
    first = {name: tasks.content(name) for name in ("movie-reviews", "counting")}
    assert len(set(first.values())) == 2
    ratings = texts.content("movie-reviews-rating")
    assert ratings not in first.values()
    changed = tasks.definitions()["counting"].model_copy(update={"labels": ("x", "y")})
    monkeypatch.setattr("frugal.tasks.task.definitions", lambda: {"counting": changed})
    assert tasks.content("counting") != first["counting"]
    monkeypatch.undo()
    file = tasks.content("fever")
    monkeypatch.setattr(digests, "pin", lambda name, ending="": f"another {name} {ending}")
    assert tasks.content("fever") != file
    assert tasks.content("movie-reviews") != first["movie-reviews"]
    assert texts.content("movie-reviews-rating") != ratings


def test_a_copy_of_a_hub_dataset_is_known_by_its_bytes():
    source = sources.Source(hub="a/b", train="train", test="test")
    file = sources.local() / "a/b" / "default/train/0.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"one")
    first = sources.content(source)
    file.write_bytes(b"two")
    assert sources.content(source) != first


def test_pinned_models_are_known_by_their_pins(monkeypatch):
    names = [*backbones.PINNED, *tiny.MODELS]
    assert len({digests.backbone(name) for name in names}) == len(names)
    first = digests.backbone("minilm-l6"), digests.backbone("nano-t0")
    monkeypatch.setattr(digests, "pin", lambda name: "another")
    assert digests.backbone("minilm-l6") != first[0]
    assert digests.backbone("nano-t0") != first[1]  # which lies on the same model


def test_prices_and_presets_are_in_a_notebooks_key(task, model, tmp_path, monkeypatch):
    mine = tmp_path / "data"
    mine.mkdir()
    for name in ("presets.toml", "prices.csv", "artifacts.toml"):
        (mine / name).write_bytes((data.ROOT / name).read_bytes())
    monkeypatch.setattr(data, "ROOT", mine)
    seen = [tuple(of_notebook(task, model, tmp_path))]
    for name in ("prices.csv", "presets.toml"):
        (mine / name).write_bytes((mine / name).read_bytes() + b"\n")
        seen.append(tuple(of_notebook(task, model, tmp_path)))
    assert len(set(seen)) == 3


def test_a_large_file_that_nobody_wrote_to_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 1000)
    read = []
    real = digests.read
    monkeypatch.setattr(digests, "read", lambda path: read.append(path) or real(path))
    monkeypatch.setattr(digests, "SETTLED", 60.0)
    assert digests.file(file) == digests.file(file)
    assert len(read) == 2  # just written: its next write could leave the same times
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    assert digests.file(file) == digests.file(file) == real(file)
    assert len(read) == 3
    file.write_bytes(b"y" * 1000)
    assert digests.file(file) == real(file)


def test_an_input_that_changes_while_a_sweep_runs_stops_the_run(task, model, tmp_path):
    store = Store(tmp_path / "s")
    found = Search(settings(task, model), store)
    planned = found.specs("S0", SPACE)
    write_task(task, LINES[:-1])
    with pytest.raises(FrugalError, match=r"task: changed since this run was planned"):
        sweep.run(planned, store)
    assert not any(store.done(s.id) for s in planned)


def test_an_edited_file_is_read_again_by_the_same_process(task, model, tmp_path):
    store = Store(tmp_path / "s")
    Search(settings(task, model), store).run()
    first = {s.id: store.result(s.id) for s in store.specs()}
    write_task(task, [{**line, "prompt": "x" + line["prompt"]} for line in LINES])
    Search(settings(task, model), store).run()
    both = {s.id: store.result(s.id) for s in store.specs()}
    assert len(both) == 2 * len(first) > 0
    fresh = Store(tmp_path / "fresh")
    train._task.cache_clear()
    Search(settings(task, model), fresh).run()
    alone = {s.id: fresh.result(s.id) for s in fresh.specs()}
    assert alone == {k: v for k, v in both.items() if k not in first}


def test_a_search_is_reported_as_it_was_whatever_became_of_its_files(task, model, tmp_path):
    store = Store(tmp_path / "s")
    (stage,) = Search(settings(task, model), store).run()
    assert stage.winner == "S0"
    task.unlink()
    (again,) = search.opened(store.folder).report()
    assert again.record() == stage.record()
    assert {s.preset for s in store.specs()} == {"smoke"}
    assert json.loads((store.folder / search.FILE).read_text())["preset"] == "smoke"


def test_a_store_is_of_one_preset(task, model, tmp_path):
    store = Store(tmp_path / "s")
    Search(settings(task, model), store).run()
    before = (store.folder / search.FILE).read_bytes()
    other = Search(settings(task, model, preset="laptop"), store)
    for act in (other.run, lambda: other.plan(0.0)):
        with pytest.raises(FrugalError, match="of the preset smoke, not laptop; name another"):
            act()
    assert (store.folder / search.FILE).read_bytes() == before


def former_store(folder, wanted):
    """A store as version 1 wrote it."""
    for number, spec in enumerate(wanted):
        old = spec.model_copy(update={"key": 1, "inputs": {}})
        place = folder / "runs" / RunSpec(**old.model_dump()).id
        place.mkdir(parents=True)
        job = {"spaces.finetune": "frugal.spaces.train:finetune"}[spec.job]
        about = {"job": job, "params": spec.params, "num_gpus": 0.0}
        result = {"score": number / 10, "params": 5, "head_params": 1, "loss": 0.5}
        took = {"started": "2026-11-25T00:00:00+00:00", "seconds": 1.5, "host": "h"}
        for name, content in (("spec", about), ("result", result), ("machine", took)):
            (place / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    return Store(folder)


def test_a_store_of_before_is_reported_and_not_continued(task, model, tmp_path, frugal):
    mine = settings(task, model, designs=2)
    wanted = Search(mine, Store(tmp_path / "none")).specs("S0", SPACE)
    store = former_store(tmp_path / "old", wanted)
    kept = mine.model_dump(mode="json", exclude={"preset"})
    (store.folder / search.FILE).write_text(json.dumps(kept))
    before = {p: p.read_bytes() for p in store.folder.rglob("*.json")}
    found = search.opened(store.folder)
    (stage,) = found.report()
    assert (stage.done, stage.winner) == (2, "S0")
    assert stage.candidates["mean"].item() == pytest.approx(0.05)
    assert sweep.collect(store)["score"].tolist() != []
    status, out, _ = frugal("spaces", "report", "--store", store.folder, "--json")
    assert (status, json.loads(out)["preset"]) == (0, None)
    for act in (found.run, lambda: found.plan(0.0), lambda: sweep.run(wanted, store)):
        with pytest.raises(FrugalError, match=r"old: its runs have keys of version 1.*version 2"):
            act()
    assert {p: p.read_bytes() for p in store.folder.rglob("*.json")} == before


@pytest.mark.parametrize("params", [{"a": "\ud800"}, {"a": float("inf")}, {"a": {1}}])
def test_params_that_json_cannot_hold_are_one_line(params):
    with pytest.raises(FrugalError, match=r"job tiny_jobs:returns: params"):
        runs.spec("tiny_jobs:returns", params, inputs={})


def test_an_explicit_preset_beats_the_environment_and_both_are_named(monkeypatch, frugal, tmp_path):
    monkeypatch.setenv("FRUGAL_PRESET", "smoke")
    task = write_task(tmp_path / "t.jsonl")
    arguments = ["tfew", task, "--backbone", "tiny-causal", "--dry-run", "--json"]
    status, out, err = frugal(*arguments)
    assert (status, json.loads(out)["preset"]) == (0, "smoke")
    assert "note: the preset is smoke, from FRUGAL_PRESET" in err
    status, out, err = frugal(*arguments, "--preset", "laptop")
    assert (status, json.loads(out)["preset"]) == (0, "laptop")
    assert "FRUGAL_PRESET" not in err
    assert json.loads(out)["steps"] == data.toml("presets.toml")["laptop"]["recipe"]["steps"]
    monkeypatch.setenv("FRUGAL_PRESET", "smoek")
    status, _, err = frugal(*arguments)
    assert (status, err.count("Traceback")) == (2, 0)
    assert "unknown preset 'smoek'; did you mean 'smoke'" in err


def test_a_notebooks_literal_is_a_default_that_the_environment_replaces(monkeypatch):
    assert presets.settings("laptop").name == "laptop"
    assert "FRUGAL_PRESET" not in presets.versions(presets.settings("laptop"), "cpu", "float32")
    monkeypatch.setenv("FRUGAL_PRESET", "smoke")
    use = presets.settings("laptop")
    assert use.name == use.spaces.preset == use.budgets.preset == "smoke"
    assert "preset smoke (from FRUGAL_PRESET" in presets.versions(use, "cpu", "int8")
    assert presets.named("laptop").name == "laptop"


def test_the_environments_preset_is_in_a_grids_key_and_a_chosen_one_is_kept(
    task, model, tmp_path, monkeypatch
):
    plain = of_notebook(task, model, tmp_path)
    monkeypatch.setenv("FRUGAL_PRESET", "laptop")
    assert not set(plain) & set(of_notebook(task, model, tmp_path))
    found = grid.grid(tmp_path / "nb.ipynb", {"preset": "smoke"}, {"budget": ["1"]})
    assert [(s.preset, s.params["parameters"]["preset"]) for s in found.specs] == [("smoke",) * 2]
    seen = "import os; print(os.environ.get('FRUGAL_PRESET'))"
    with presets.chosen("smoke"):
        told = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True)
    assert told.stdout.strip() == "None"
    assert presets.of_environment() == "laptop"


def test_a_checkpoint_is_of_one_model_and_one_reading_of_the_examples(tmp_path):
    recipe = tfew.Recipe(steps=2, batch_size=2)
    examples = tasks.load("counting").draw(4, 0)
    folder = tmp_path / "run"
    backbone = backbones.load("tiny-causal", device="cpu")
    first = tfew.train(backbone, examples, recipe, checkpoint=folder)
    first.tuned.detach()
    other = backbones.load("tiny-causal", device="cpu")
    with torch.no_grad():
        next(iter(other.model.parameters()))[0, 0] += 1
    with pytest.raises(FrugalError, match=r"another training \(its model"):
        tfew.train(other, examples, recipe, checkpoint=folder)
    third = backbones.load("tiny-causal", device="cpu")
    third.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("a", "b")
    with pytest.raises(FrugalError, match=r"another training \(its tokens"):
        tfew.train(third, examples, recipe, checkpoint=folder)
    again = tfew.train(backbone, examples, recipe, checkpoint=folder)
    assert again.loss == first.loss


def test_a_notebook_is_run_at_the_preset_that_was_chosen(task, model, tmp_path, monkeypatch):
    import papermill

    class Started(Exception):
        pass

    def started(*arguments, **_):
        (values,) = (a for a in arguments if isinstance(a, dict))
        raise Started(values.get("preset"), presets.of_environment())

    of_notebook(task, model, tmp_path)
    notebook = tmp_path / "nb.ipynb"
    monkeypatch.setattr(papermill, "execute_notebook", started)
    cases = [("", {}, (None, "")), ("", {"preset": "server"}, ("server", ""))]
    cases += [("laptop", {}, ("laptop", "")), ("laptop", {"preset": "server"}, ("server", ""))]
    for environment, given, expected in cases:
        monkeypatch.setenv("FRUGAL_PRESET", environment)
        with pytest.raises(Started) as seen:
            execution.run(notebook, tmp_path / "out", given)
        assert seen.value.args == expected
        declared = parameters.declared(reading.read(notebook), notebook)
        assert declared.preset(given) == (expected[0] or "smoke")
        assert presets.of_environment() == environment
