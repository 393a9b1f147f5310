"""Examples, and the templates that make them of the rows of a dataset."""

import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

Content = tuple[str, frozenset[str]]
CONTENT_FREE = "N/A"  # Zhao et al. 2021, §5


def content(prompt: str, choices: Sequence[str]) -> Content:
    """What makes two examples the same question, whatever their labels.

    The prompt composed (NFC), since systems differ in that unseen, and with any white space as one
    space, since exports do; and the choices, in whichever order.
    """
    return unicodedata.normalize("NFC", " ".join(prompt.split())), frozenset(choices)


class Example(BaseModel):
    """A prompt, answer choices that follow it directly, and the index of the right one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str
    choices: tuple[str, ...] = Field(min_length=2)
    label: StrictInt

    @model_validator(mode="after")
    def _sound(self) -> "Example":
        try:
            "".join([self.prompt, *self.choices]).encode()
        except UnicodeEncodeError as error:  # half of a character, which JSON can escape
            raise ValueError("a lone surrogate is no text") from error
        if not all(choice.strip() for choice in self.choices):
            raise ValueError("choices: one is empty")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("choices: two are the same")
        if not 0 <= self.label < len(self.choices):
            label, count = f"{self.label!s:.20}", len(self.choices)
            raise ValueError(f"label: {label} is not the index of one of {count} choices")
        return self

    @property
    def content(self) -> Content:
        """Which question this is."""
        return content(self.prompt, self.choices)


class Template(BaseModel):
    """How a row becomes an example: texts in which {column} stands for what the row holds there.

    choices: the choices themselves; or one text, to be filled in with each item of the list that
        it names, such as " {endings}"

    What a row holds is text, whatever braces are in it.

    {labels} is the list of the task's classes. In a prompt, a list is written with commas between
    its items, and a comma for a full stop in one, as T-Few's released code does for Banking-77.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    choices: tuple[str, ...] | str

    @model_validator(mode="after")
    def _list(self) -> "Template":
        for text in (
            self.prompt,
            *([self.choices] if isinstance(self.choices, str) else self.choices),
        ):
            _plain(text)
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

    def prompt_of(self, row: Mapping[str, Any]) -> str:
        """The prompt of one row."""
        written = {
            name: ", ".join(item.strip().replace(".", ",") for item in row[name])
            if isinstance(row[name], list | tuple)
            else row[name]
            for name in _named(self.prompt)
        }
        return self.prompt.format_map(written)

    def content(self, row: Mapping[str, Any]) -> Content:
        """Which question a row is under this template."""
        return content(self.prompt_of(row), self.choices_of(row))

    def example(self, row: Mapping[str, Any], label: int, *, content_free: bool = False) -> Example:
        """The example that a row makes under this template.

        content_free: with "N/A" in place of each text in the prompt; the choices are the row's
        """
        told = {**row, **dict.fromkeys(self._texts(row), CONTENT_FREE)} if content_free else row
        return Example(prompt=self.prompt_of(told), choices=self.choices_of(row), label=label)

    def _texts(self, row: Mapping[str, Any]) -> list[str]:
        """The columns in the prompt that hold a text, and no list."""
        return [name for name in _named(self.prompt) if isinstance(row[name], str)]


def _named(text: str) -> list[str]:
    """The columns that stand in {braces} in `text`."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


def _plain(text: str) -> None:
    """Refuse what is more than a column's name in braces: `format` would look inside of texts."""
    try:
        fields = [field for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"{error}; write {{{{ or }}}} for a brace itself") from error
    for _, name, spec, conversion in fields:
        if not name or name.isdigit() or spec or conversion or set(".[") & set(name):
            shown = f"{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}"
            raise ValueError(
                f"{{{shown[:40]}}} does not name a column; write {{{{ for a brace itself"
            )


AS_IS = Template(prompt="{prompt}", choices="{choices}")
