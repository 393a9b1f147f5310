"""Every number option of every command has bounds, and says so in one line."""

import json
import math
from typing import get_args, get_type_hints

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frugal import cli
from frugal.cli import options


def commands(group, path=()):
    """Every command of a typer: the words that call it, and its function."""
    for command in group.registered_commands:
        yield (*path, command.name or command.callback.__name__), command.callback
    for inner in group.registered_groups:
        yield from commands(inner.typer_instance, (*path, inner.name))


def taken(function):
    """The options of a command: name, whether it is a flag, a number or anything else."""
    for name, hint in get_type_hints(function, include_extras=True).items():
        given = getattr(hint, "__metadata__", ())
        if given and isinstance(given[0], typer.models.OptionInfo):
            kinds = {hint.__origin__, *get_args(hint.__origin__)}
            kinds |= {inner for kind in kinds for inner in get_args(kind)}
            written = [n for n in given[0].param_decls or () if n.startswith("--")]
            yield (written or [f"--{name.replace('_', '-')}"])[0], kinds


ALL = dict(commands(cli.app))
NUMBERS = [
    (" ".join(path), option)
    for path, function in ALL.items()
    for option, kinds in taken(function)
    if kinds & {int, float}
]


def test_there_are_number_options():
    assert {command for command, _ in NUMBERS} >= {"rank", "tfew", "plan", "costs query"}
    assert len(NUMBERS) > 60


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "9" * 400])
def test_every_number_option_refuses_nonsense(frugal, value):
    """Options are read one by one, so the first that is wrong is the one that is named."""
    for command, option in NUMBERS:
        status, out, err = frugal(*command.split(), f"{option}={value}")
        assert (status, out) == (2, ""), (command, option)
        assert f"Invalid value for '{option}'" in err, (command, option)
        assert err.count("\n") == 1


# fmt: off
ODD = (
    "nan", "-inf", "1e999", "-1", "0", "1", "2", "7", "0.5", "9223372036854775807", "--json", "--",
    "-", ".", "/", "/dev/null", "~", "~/x", "t0-3b", "t5-base", "gpt3-175b", "minilm-l6", "S0",
    "ia3", "lora", "full", "paper", "exact", "fever", "tfew_table1", "tfew", "failed", "vader",
    "int8", "smoke", "a100-80gb", "{x}", "%", "\\", "é", "연구", "×", "x=1", "",
)
# fmt: on
WORDS = st.one_of(
    st.sampled_from(ODD),
    st.integers().map(str),
    st.floats().map(str),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.text(max_size=4),  # with surrogates
)
CHEAP = [
    ("costs", "query"), ("costs", "train"), ("costs", "cache"), ("costs", "adapter"),
    ("costs", "memory"), ("costs", "labels"), ("costs", "compare"), ("papers", "table"),
    ("spaces", "sample"), ("spaces", "status"), ("spaces", "report"), ("budgets", "buy"),
    ("artifacts", "list"), ("run",), ("claims",),
]  # fmt: skip


@st.composite
def lines(draw):
    """A command, some of its options with odd values, and odd words."""
    path = draw(st.sampled_from(CHEAP))
    known = list(taken(ALL[path]))
    words = []
    for name, kinds in draw(st.lists(st.sampled_from(known), max_size=6)):
        if bool in kinds:
            words.append(name)
        elif draw(st.booleans()):
            words.append(f"{name}={draw(WORDS)}")
        else:
            words += [name, draw(WORDS)]
    if path == ("spaces", "sample"):
        words += ["--count", "2"]  # the last counts
    return [*path, *words, *draw(st.lists(WORDS, max_size=2))]


@pytest.mark.parametrize("value", ["9" * 5000, "-1e400", "1_0_", "²", "٣x", " ", "1j"])
def test_what_is_no_number_is_no_traceback(frugal, value):
    status, out, err = frugal("costs", "labels", "--task", "fever", f"--count={value}")
    assert (status, out, err.count("\n")) == (2, "", 1)


@given(lines())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_line_ends_in_a_traceback(frugal, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    status, out, err = frugal(*line)
    assert status in (0, 2), err
    assert "Traceback" not in err
    if status == 2:
        assert err.splitlines()[-1].startswith("frugal: ")
    if "--json" in line and status == 0 and "--help" not in line and out:
        json.loads(out, parse_constant=pytest.fail)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_range_alone_lets_nan_through_and_the_callback_does_not(value):
    with pytest.raises(typer.BadParameter, match="not a finite number"):
        options._finite(value)
    assert options._finite(0.5) == 0.5


@pytest.mark.parametrize("seed", ["4294967295", "0"])
def test_the_widest_seeds_are_taken(frugal, seed):
    status, out, _ = frugal(
        "spaces", "sample", "--stage", "S0", "--count", 1, "--seed", seed, "--json"
    )
    assert status == 0
    assert json.loads(out)["seed"] == int(seed)
