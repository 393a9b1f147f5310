"""Presets: the same code at four sizes, from a unit test's to the papers' own."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from frugal import data
from frugal.errors import FrugalError, unknown


def names() -> list[str]:
    return list(data.toml("presets.toml"))


VARIABLE = "FRUGAL_PRESET"
CHAPTERS = ("spaces", "budgets")  # tables that are read alone, and so name their preset too


def settings(preset: str, **given: Any) -> dict[str, Any]:
    """The values of `preset`, as a notebook's own cell names it, replaced by those of `given`.

    Where the environment has FRUGAL_PRESET it replaces the preset, so that a test can run an
    unchanged notebook small; `versions` then says so. For the rest see `named`.
    """
    return named(of_environment() or preset, **given)


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


def named(preset: str, **given: Any) -> dict[str, Any]:
    """The values of `preset`, replaced by those of `given` that are set (not 0, "", [] or None).

    Raises FrugalError for an unknown preset or value.
    """
    table = data.toml("presets.toml")
    if preset not in table:
        raise unknown("preset", preset, table)
    values = dict(table[preset])
    for name, value in given.items():
        if name not in values:
            raise FrugalError(f"{name} is not a setting of presets; they are {', '.join(values)}")
        if value:
            values[name] = value
    for chapter in CHAPTERS:
        values[chapter] = {**values[chapter], "preset": preset}
    return {"preset": preset, **values}


def of_backbone(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a preset says of the backbone `name`: `arch`, and `recipe`, what it changes in one."""
    listed: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in settings["backbones"]}
    return listed.get(name, {"name": name, "arch": "", "recipe": {}})


def versions(settings: dict[str, Any], device: Any) -> str:
    """One line that says on what a notebook ran: versions, device, preset and who chose it."""
    import platform
    from importlib.metadata import version

    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {version(name)}" for name in ("torch", "transformers")]
    chosen = f"preset {settings['preset']}"
    if of_environment() == settings["preset"]:
        chosen += f" (from {VARIABLE}, whatever the notebook names)"
    return ", ".join([*parts, f"device {device}", chosen])


def machine() -> str:
    """The processor, how many of its cores, and the GPU if there is one."""
    import platform

    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores{gpu}"
