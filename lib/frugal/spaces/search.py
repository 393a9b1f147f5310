"""The greedy search: stage after stage, the constraint whose designs score best is kept.

For each candidate constraint, n designs that satisfy it are drawn and trained on every task; the
candidate with the highest average becomes part of the space of the next stage. Everything is a
function of the settings: a search that is killed, or made larger, goes on in its store.

Source: Chen et al., ICLR 2023: 100 designs a candidate, 3 epochs, averages over 8 tasks.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, ValidationError

from frugal import stats
from frugal.costs import arch
from frugal.costs.arch import Architecture
from frugal.engine import files, presets, sweep
from frugal.engine.runs import KEY, RunSpec, Store, inputs_of, spec
from frugal.errors import FrugalError, first_problem
from frugal.spaces import design, sizes
from frugal.spaces.design import GROUPS, PATTERNS, WEAK, groupings
from frugal.spaces.space import ALLOCATIONS, PAPER, Space

JOB = "spaces.finetune"
STAGES = ("S0", "S1", "S2", "S3", *(f"S4-G{group}" for group in GROUPS))
FILE = "search.json"  # in the store: the settings it was last used with, and what they read


class Settings(presets.Search):
    """What is searched on what, and how much.

    inputs: by task, digests of what its runs read, of a search of before; else as that is now
    """

    inputs: dict[str, dict[str, str]] = Field(default_factory=dict)

    @classmethod
    def of(cls, preset: presets.Spaces, *, live: bool = False, **given: Any) -> "Settings":
        """Those of a preset, replaced by what `given` says (`presets.said`).

        live: those of the small search that a notebook runs
        """
        own = preset.model_dump(exclude={"live", "rivals"})
        short = preset.live.model_dump() if live else {}
        return cls(**own | short | presets.said(**given))

    def architecture(self) -> Architecture:
        """Sizes of the backbone."""
        if self.arch:
            return arch.get(self.arch)
        from frugal.engine import backbones

        return arch.from_config(backbones.load(self.backbone, device="cpu").model.config)

    def known(self) -> "Settings":
        """With the inputs of all tasks."""
        found = {
            task: self.inputs[task]
            if task in self.inputs
            else inputs_of(JOB, {"backbone": self.backbone, "task": task})
            for task in self.tasks
        }
        return self.model_copy(update={"inputs": found})

    def runs(self, design: str, seed: int, *, key: int = KEY, **changes: Any) -> list[RunSpec]:
        """Those of one design, a task each; `changes` are of their params."""
        # What a run without it was in is not named, so that it is the same run.
        own = "float32" if design == "full" else self.precision
        named = {} if own == "float32" else {"precision": own}
        return [
            spec(
                JOB,
                {
                    "backbone": self.backbone,
                    "task": task,
                    "design": design,
                    "budget": self.budget,
                    "labels": self.labels,
                    "limit": self.limit,
                    "seed": seed,
                    "recipe": self.recipe,
                    **named,
                    **changes,
                },
                inputs=self.inputs.get(task),
                preset=self.preset,
                num_gpus=self.num_gpus,
                key=key,
            )
            for task in self.tasks
        ]


@dataclass(frozen=True)
class Stage:
    """A stage of the search: its candidates, best or not, and what is known of them.

    candidates: as `stats.judge` gives them, from the designs that are scored on all tasks
    done, runs: trainings; winner: None until all are done
    specs: the trainings of each candidate; none where no design of it exists or meets the budget
    scores: of the designs of each candidate that are scored on all tasks, place by place
    """

    name: str
    candidates: pd.DataFrame
    done: int
    runs: int
    winner: str | None
    specs: Mapping[str, list[RunSpec]] = field(default_factory=dict)
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def left_out(self) -> list[str]:
        """Candidates that have no training."""
        return [name for name, runs in self.specs.items() if not runs]

    @property
    def leads(self) -> dict[str, stats.Difference]:
        """What the winner scores over the runner-up, and over the paper's winner, if another.

        By their names; {} where nothing is decided. Paired by place, where designs learn the same
        labels. The intervals of a winner's leads over all its rivals hold together (Bonferroni),
        since it was chosen among them.
        """
        others = self.candidates[self.candidates["name"] != self.winner]
        if self.winner is None or others.empty:
            return {}
        rivals = [str(others.loc[others["mean"].idxmax(), "name"]), papers_winner(self.name)]
        found = {}
        for rival in rivals:
            if rival in set(others["name"]):
                sides = [self.scores[name] for name in (self.winner, rival)]
                places = min(map(len, sides))
                own, theirs = ([[score] for score in side[:places]] for side in sides)
                found[rival] = stats.compare(own, theirs, of=len(others))
        return found

    def record(self) -> dict[str, Any]:
        """For JSON; what is not known is None."""
        rows = self.candidates.astype(object).where(self.candidates.notna(), None)
        found = {"stage": self.name, "candidates": rows.to_dict("records"), "winner": self.winner}
        found["leads"] = [
            {"over": name, "difference": lead.difference, "low": lead.low, "high": lead.high}
            for name, lead in self.leads.items()
        ]
        return found | {"done": self.done, "runs": self.runs, "left_out": self.left_out}


def candidates(stage: str, so_far: Space) -> dict[str, Space | None]:
    """The spaces that a stage compares, by name; {} where its group is not tuned.

    S1 compares the five patterns; where a model has too few layers for one of them, its weak form;
    None where that has no member either. S3 and S4 compare what the paper did: 9 of 15 sets of
    groups, 12 of 15 sets of methods.
    """
    if stage == "S0":
        return {"S0": so_far}
    if stage == "S1":
        patterns: dict[str, Space | None] = {}
        for name in PATTERNS:
            kinds = [k for k in (name, f"weakly {name}") if k in PATTERNS | WEAK]
            kind = next((k for k in kinds if groupings(k, so_far.layers)), None)
            patterns[kind or name] = replace(so_far, grouping=kind) if kind else None
        return patterns
    if stage == "S2":
        return {name: replace(so_far, allocation=name) for name in ALLOCATIONS}
    if stage == "S3":
        sets = [tuple(map(int, text.split(","))) for text in design.tried("groups")]
        return {", ".join(f"G{n}" for n in tuned): replace(so_far, tuned=tuned) for tuned in sets}
    group = int(stage[-1])
    if so_far.tuned and group not in so_far.tuned:
        return {}
    before, after = so_far.methods[: group - 1], so_far.methods[group:]
    return {
        ", ".join(own): replace(so_far, methods=(*before, own, *after))
        for own in design.tried("methods")
    }


class Search:
    """A search in its store, on models and texts as they are now, or as `settings` know them."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.store, self.key = store, store.key() or KEY
        # Runs of version 1 did not say what they read.
        self.settings = settings.known() if self.key > 1 else settings
        self.shape = settings.architecture()

    def specs(self, stage: str, space: Space | None) -> list[RunSpec]:
        """The runs of one candidate: each design on each task, seeded with the design's place.

        [] where no design of it exists or meets the budget.
        """
        s = self.settings
        count = s.last_designs if stage.startswith("S4") else s.designs
        seed = STAGES.index(stage)
        try:
            drawn = (
                sizes.draw(space, self.shape, count, seed=seed, budget=s.budget) if space else []
            )
        except FrugalError:
            return []
        return [
            run
            for place, sized in enumerate(drawn)
            for run in s.runs(str(sized.design), place, key=self.key)
        ]

    def walk(
        self,
        compute: Callable[[str, list[RunSpec]], Any] = lambda stage, runs: None,
        *,
        papers: bool = False,
    ) -> Iterator[Stage]:
        """Stage by stage, up to the first that is not done; each is judged once.

        compute: called with a stage's name and runs, before it is judged
        papers:  whether what is not done goes on with what won in the paper, where that can
        """
        space = Space(self.shape.layers + self.shape.decoder_layers)
        for name in STAGES[: STAGES.index(self.settings.until) + 1]:
            if not (spaces := candidates(name, space)):
                continue
            specs = {each: self.specs(name, of) for each, of in spaces.items()}
            if not (able := [each for each, runs in specs.items() if runs]):
                raise FrugalError(f"{name}: no design meets the budget of {self.settings.budget}")
            compute(name, [run for runs in specs.values() for run in runs])
            yield (stage := self.judged(name, specs))
            winner = stage.winner
            if papers and winner is None:
                winner = theirs if (theirs := papers_winner(name)) in able else able[0]
            if winner is None:
                return
            space = spaces[winner] or space

    def judged(self, name: str, specs: Mapping[str, list[RunSpec]]) -> Stage:
        """What the store says of a stage; a design counts when it is scored on all tasks."""
        scores: dict[str, list[float]] = {}
        done, tasks = 0, len(self.settings.tasks)
        for candidate, runs in specs.items():
            found: dict[int, list[float]] = {}  # by the design's place, which is its seed
            for run in runs:
                if self.store.done(run.id):
                    own = found.setdefault(run.params["seed"], [])
                    own.append(self.store.result(run.id)["score"])
            done += sum(map(len, found.values()))
            scores[candidate] = [sum(own) / tasks for own in found.values() if len(own) == tasks]
        total = sum(map(len, specs.values()))
        table = pd.DataFrame(stats.judge(scores))
        winner = str(table.loc[table["mean"].idxmax(), "name"]) if done == total else None
        return Stage(name, table, done, total, winner, specs, scores)

    def run(
        self, *, ray: bool = False, progress: Callable[[str, int, int], Any] = lambda *_: None
    ) -> list[Stage]:
        """Compute what is missing, stage by stage; what was found.

        progress: called with stage, runs done, runs in all

        Raises FrugalError for a store of an older version, or of another preset.
        """
        self.continues()
        self.keep_settings()

        def compute(stage: str, runs: list[RunSpec]) -> None:
            sweep.run(runs, self.store, ray=ray, stage=stage, progress=partial(progress, stage))

        return list(self.walk(compute))

    def report(self) -> list[Stage]:
        """Every stage that is done, and the one that has begun."""
        return list(self.walk())

    @staticmethod
    def table(stages: Sequence[Stage]) -> pd.DataFrame:
        """All candidates of all stages, one a row; `winner` marks those that won."""
        parts = [
            s.candidates.assign(stage=s.name, winner=s.candidates["name"] == s.winner)
            for s in stages
        ]
        return pd.concat(parts, ignore_index=True)[["stage", *stats.JUDGED, "winner"]]

    def plan(self, usd_per_hour: float) -> sweep.Plan:
        """What is left to compute and its cost; stages that are not known yet as in the paper.

        Raises FrugalError where `run` would, for what it finds in the store.
        """
        self.continues()
        runs = [run for s in self.walk(papers=True) for own in s.specs.values() for run in own]
        speed = self.settings.flops_per_second
        return sweep.plan(runs, self.store, flops_per_second=speed, usd_per_hour=usd_per_hour)

    def continues(self) -> None:
        """Raise FrugalError for a store that this search must not go on in."""
        self.store.continues()
        if (self.store.folder / FILE).exists():
            mine, there = self.settings.preset, _kept(self.store.folder).preset
            if mine and there and mine != there:
                raise FrugalError(
                    f"{self.store.folder}: holds a search of the preset {there}, not {mine}; "
                    "name another store"
                )

    def keep_settings(self) -> None:
        """Write the settings into the store, and what they read, for `opened`."""
        about = json.dumps(self.settings.model_dump(mode="json"), indent=2)
        with self.store.mending():
            files.write(self.store.folder / FILE, about)


def opened(folder: Path) -> Search:
    """The search whose store `folder` is, to be reported; FrugalError where there is none.

    It is that of the models and texts it was run on, whatever has become of them.
    """
    return Search(_kept(folder), Store(folder))


def _kept(folder: Path) -> Settings:
    """Settings as a store keeps them; before there were inputs, it kept none."""
    file = folder / FILE
    try:
        return Settings.model_validate(files.read_json(file))
    except ValidationError as error:
        raise FrugalError(f"{file}: {first_problem(error)}") from error
    except OSError as error:
        raise FrugalError(f"{folder}: no search was started here ({error.strerror})") from error
    except ValueError as error:
        raise FrugalError(f"{file}: cannot be read ({error})") from error


def papers_winner(stage: str) -> str:
    """The candidate that won this stage in the paper."""
    if stage.startswith("S4"):
        return ", ".join(PAPER.methods[int(stage[-1]) - 1] or "")
    tuned = ", ".join(f"G{n}" for n in PAPER.tuned or ())
    won = {"S0": "S0", "S1": PAPER.grouping, "S2": PAPER.allocation, "S3": tuned}
    return won[stage] or ""
