"""Presets: the same code at four sizes, from a unit test's to the papers' own.

`data/presets.toml` has the values; here is what each is called and may be.
"""

import contextlib
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frugal import data
from frugal.errors import FrugalError, first_problem, unknown

VARIABLE = "FRUGAL_PRESET"


def said(**given: Any) -> dict[str, Any]:
    """Those of `given` that say something; 0, "", an empty list and None leave it to the preset."""
    return {name: value for name, value in given.items() if value}


Own = TypeVar("Own", bound="Table")


class Table(BaseModel):
    """A table of a preset, whose values cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def given(self: Own, **given: Any) -> Own:
        """The same with what `given` says (see `said`); FrugalError for what it may not be."""
        try:
            return self.model_validate(self.model_dump() | said(**given))
        except ValidationError as error:
            raise FrugalError(f"{type(self).__name__.lower()}: {first_problem(error)}") from error


class Listed(Table):
    """A backbone of a whole study: its sizes (data/architectures.csv), and its own recipe."""

    name: str
    arch: str = ""
    recipe: dict[str, Any] = {}


class Latency(Table):
    """Chapter 1: `tokens` in all, as so many sequences, on a backbone."""

    backbone: str
    tokens: tuple[int, ...]
    batches: tuple[int, ...]
    repeats: int


class Figure2(Table):
    """Chapter 2: what is compared in Figure 2.

    methods: names of `data/figure2.toml`; recipes: which of theirs
    live:    those of them that a notebook trains; all unless given
    steps:   that stand for 1,000 of the paper's; least_steps: of any training
    """

    methods: tuple[str, ...] = Field(min_length=1)
    live: tuple[str, ...] = ()
    recipes: Literal["short", "paper"]
    task: str
    labels: int = Field(ge=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    limit: int = Field(ge=1)
    steps: int = Field(ge=1)
    least_steps: int = Field(1, ge=1)


class Search(Table):
    """Chapter 4: what is searched on what, and how much.

    arch:   name of the backbone's sizes (data/architectures.csv); "" reads them off the model
    labels, limit: training and test texts of each task, or all where they are fewer
    designs, last_designs: of each candidate up to S3, and in S4
    recipe: of a training, see `encoders.classifier.Recipe`
    budget: share of the model's parameters that is trained
    until:  the last stage that is searched
    precision: of the backbone's frozen weights; a training of all of them is in float32
    num_gpus: of each run on Ray
    flops_per_second, gpu: what one device achieves, and whose price it has ("": none)
    preset: that these are of ("": none)
    """

    backbone: str
    arch: str = ""
    tasks: tuple[str, ...] = Field(min_length=1)
    labels: int = Field(ge=1)
    limit: int = Field(ge=1)
    designs: int = Field(ge=1)
    last_designs: int = Field(ge=1)
    recipe: dict[str, Any] = {}
    budget: float = 0.005  # the paper's
    precision: str = "float32"
    until: Literal["S0", "S1", "S2", "S3", "S4-G1", "S4-G2", "S4-G3", "S4-G4"] = "S4-G4"
    num_gpus: float = Field(0, ge=0)
    flops_per_second: float = Field(gt=0)
    gpu: str = ""
    preset: str = ""


class Live(Table):
    """What a notebook's own search changes."""

    designs: int
    until: str


class Rivals(Table):
    """Designs that are compared over `seeds` draws: what each changes in the search's recipe."""

    seeds: int
    designs: dict[str, dict[str, Any]]


class Spaces(Search):
    """Chapter 4: the search, a notebook's smaller one, and what is compared with what it finds."""

    live: Live
    rivals: Rivals


class Study(Table):
    """Chapter 5: what is compared.

    labels:     N, the human labels that every strategy begins with
    encoder:    what small students are made of
    teacher:    a backbone that learns the labels and teaches; by default the encoder, all of it
    students:   as `budgets.students.new` names them
    unlabelled: texts for the teacher and the LLM, the same for all N; limit: test examples
    llm, llm_shots: who annotates, after so many of the human labels as examples ("" for nobody);
        llm_texts: of the unlabelled ones, at most; in which precision its weights are
    training:   the precision in which small classifiers learn and answer
    teacher_precision: of the frozen weights of a language model that teaches
    teacher_steps, teacher_epochs: of an encoder that teaches, whichever is longer; it is
        pretrained, and needs few
    epochs, least_steps: of a student's training, whichever is longer
    teacher_lr, student_lr, design_lr: of all of an encoder, of fresh layers, of a design, which
        trains `design_share` of the encoder's parameters
    preset: that these are of ("": none)
    """

    task: str
    encoder: str
    teacher: str = ""
    students: tuple[str, ...] = Field(min_length=1)
    llm: str
    llm_shots: int = Field(ge=0)
    llm_texts: int = Field(ge=1)
    precision: str = "float32"
    training: Literal["float32", "bfloat16"] = "float32"
    labels: tuple[int, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    unlabelled: int = Field(ge=1)
    limit: int = Field(ge=1)
    teacher_precision: Literal["float32", "bfloat16", "int8"] = "float32"
    teacher_steps: int = Field(ge=1)
    teacher_epochs: int = Field(0, ge=0)
    epochs: int = Field(ge=1)
    least_steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    teacher_lr: float = Field(gt=0)
    student_lr: float = Field(gt=0)
    design_lr: float = Field(gt=0)
    design_share: float = Field(gt=0, le=1)
    preset: str = ""


class Budgets(Study):
    """Chapter 5, with what a language model changes in a recipe as a teacher, and as a student."""

    teacher_recipe: dict[str, Any] = {}
    student_recipe: dict[str, Any] = {}


class Capstone(Table):
    """Chapter 6: examples to score, and texts that a student may read.

    steps: of T-Few and of LoRA; tfew, lora: what each changes in the preset's recipe besides
    setfit: of `encoders.contrastive.Recipe`
    """

    task: str
    limit: int = Field(ge=1)
    unlabelled: int = Field(ge=0)
    steps: int = Field(ge=1)
    tfew: dict[str, Any] = {}
    lora: dict[str, Any] = {}
    setfit: dict[str, Any] = {}


class Preset(Table):
    """All of one size.

    backbone, beside: the language model, and the one of the other family that is measured with it
    backbones: those of a whole study, whose cost `frugal tfew --dry-run` prints
    templates: of a task that are used: "first", or "all", one of them at every sight of an example
    labels:    that T-Few trains on, where the task's benchmark names none
    icl_shots, draws, orders: sizes of prompts, draws of their examples, orders of one draw
    seeds, limit: T-Few trainings, and test examples; num_gpus: of a notebook of a grid on Ray
    precision: of the backbone's weights, as `backbones.load` takes it
    recipe, pretrain: of T-Few (`tfew.Recipe`), and what `frugal vectors` changes in it
    """

    name: str
    backbone: str
    beside: str
    backbones: tuple[Listed, ...]
    precision: str
    tasks: tuple[str, ...]
    templates: Literal["first", "all"]
    labels: int
    icl_shots: tuple[int, ...]
    draws: int
    orders: int
    seeds: tuple[int, ...]
    limit: int
    num_gpus: float
    recipe: dict[str, Any]
    pretrain: dict[str, Any]
    latency: Latency
    figure2: Figure2
    spaces: Spaces
    budgets: Budgets
    capstone: Capstone

    def listed(self, backbone: str) -> Listed:
        """What is said of a backbone; nothing of one that is not of the study."""
        known = {entry.name: entry for entry in self.backbones}
        return known.get(backbone, Listed(name=backbone))


def names() -> list[str]:
    return list(data.toml("presets.toml"))


def settings(preset: str, **given: Any) -> Preset:
    """The values of `preset`, as a notebook's own cell names it, replaced by what `given` says.

    Where the environment has FRUGAL_PRESET it replaces the preset, so that a test can run an
    unchanged notebook small; `versions` then says so. For the rest see `named`.
    """
    return named(of_environment() or preset, **given)


def named(preset: str, **given: Any) -> Preset:
    """The values of `preset`, replaced by what `given` says (see `said`).

    Raises FrugalError for an unknown preset or value.
    """
    tables = data.toml("presets.toml")
    if preset not in tables:
        raise unknown("preset", preset, tables)
    own = {"preset": preset}  # of chapters whose runs name it
    table = tables[preset]
    table |= {"name": preset, "spaces": table["spaces"] | own, "budgets": table["budgets"] | own}
    return Preset.model_validate(table).given(**given)


def of_environment() -> str:
    """The preset that the environment names, or "".

    It takes the place of defaults: a notebook's literal, or what a command does without --preset.
    What somebody chose for this run alone comes before it.
    """
    return os.environ.get(VARIABLE, "")


@contextlib.contextmanager
def chosen(preset: Any) -> Iterator[None]:
    """Let no process that starts here see the environment's preset, if another is chosen."""
    kept = os.environ.pop(VARIABLE, None) if preset else None
    try:
        yield
    finally:
        if kept is not None:
            os.environ[VARIABLE] = kept


def versions(preset: Preset, device: Any, precision: str) -> str:
    """One line on what a notebook ran: versions, device, precision, preset and who chose it."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    own = of_environment() == preset.name
    why = f" (from {VARIABLE}, whatever the notebook names)" if own else ""
    python = platform.python_version()
    return f"Python {python}, {packages}, device {device}, {precision}, preset {preset.name}{why}"


def machine() -> str:
    """The processor, the vectors that torch uses in it, how many cores, and a GPU if there is one.

    Of two machines with other vectors sums are rounded otherwise.
    """
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{name} ({vectors}), {os.cpu_count()} cores{gpu}"
