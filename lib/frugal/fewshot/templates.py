"""Examples, and the templates that make them of the rows of a dataset."""

import string
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator


class Example(BaseModel):
    """A prompt, answer choices that follow it directly, and the index of the right one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str
    choices: tuple[str, ...] = Field(min_length=2)
    label: StrictInt

    @model_validator(mode="after")
    def _sound(self) -> "Example":
        if not all(choice.strip() for choice in self.choices):
            raise ValueError("choices: one is empty")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("choices: two are the same")
        if not 0 <= self.label < len(self.choices):
            raise ValueError(
                f"label: {self.label} is not the index of one of {len(self.choices)} choices"
            )
        return self


class Template(BaseModel):
    """How a row becomes an example: texts in which {column} stands for what the row holds there.

    choices: the choices themselves; or one text, to be filled in with each item of the list that
        it names, such as " {endings}"

    {labels} is the list of the task's classes. In a prompt, a list is written with commas between
    its items, and a comma for a full stop in one, as T-Few's released code does for Banking-77.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    choices: tuple[str, ...] | str

    @model_validator(mode="after")
    def _list(self) -> "Template":
        if isinstance(self.choices, str) and len(_named(self.choices)) != 1:
            raise ValueError("choices: one text must name exactly one list")
        return self

    @property
    def columns(self) -> set[str]:
        """The columns that it names."""
        choices = [self.choices] if isinstance(self.choices, str) else self.choices
        return {name for text in (self.prompt, *choices) for name in _named(text)}

    @property
    def listed(self) -> str | None:
        """The column whose list the choices come from; None where they are given one by one."""
        return _named(self.choices)[0] if isinstance(self.choices, str) else None

    def choices_of(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The choices of one row."""
        if isinstance(self.choices, str):
            listed = _named(self.choices)[0]
            return tuple(self.choices.format_map({listed: item}) for item in row[listed])
        return tuple(choice.format_map(row) for choice in self.choices)

    def example(self, row: Mapping[str, Any], label: int) -> Example:
        """The example that a row makes under this template."""
        written = {
            name: ", ".join(item.strip().replace(".", ",") for item in row[name])
            if isinstance(row[name], list | tuple)
            else row[name]
            for name in _named(self.prompt)
        }
        return Example(
            prompt=self.prompt.format_map(written), choices=self.choices_of(row), label=label
        )


def _named(text: str) -> list[str]:
    """The columns that stand in {braces} in `text`."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


AS_IS = Template(prompt="{prompt}", choices="{choices}")


def first_problem(error: ValidationError) -> str:
    """The first problem of a record, as `field: what is wrong`."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
