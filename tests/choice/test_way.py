"""How far it is from `frugal plan` to the first pass of a model: what a reader must open.

Two counts, on a file of thirty lines. The way itself is what stands on the stack when the model is
first called: each function there calls the next. What is entered before is everything else that is
done by then: the file read and refused, a model built, FLOPs counted in closed form, packing
probed. Named functions and methods of `lib/frugal` count once, properties among them; lambdas,
comprehensions and generator expressions do not, nor what pydantic and dataclasses write.
"""

import json
import sys
from pathlib import Path

import frugal
from frugal.cli.budgets import plan
from frugal.engine import backbones

ROOT = str(Path(frugal.__file__).parent)
ON_THE_WAY, ENTERED = 10, 128


class Reached(BaseException):
    """The model was called."""


def own(code):
    return code.co_filename.startswith(ROOT) and not code.co_name.startswith("<")


def place(code):
    return str(Path(code.co_filename).relative_to(ROOT)), getattr(
        code, "co_qualname", (code.co_name, code.co_firstlineno)
    )


def walked(file, monkeypatch):
    """The functions on the stack at the first forward pass, and all entered until then."""
    entered, stack, load = {}, [], backbones.load

    def reached(*_):
        sys.setprofile(None)
        frame = sys._getframe()
        while frame:
            if own(frame.f_code):
                stack.append(place(frame.f_code))
            frame = frame.f_back
        raise Reached

    def watched(name, **how):
        found = load(name, **how)
        found.model.register_forward_pre_hook(reached)
        return found

    def entering(frame, event, _):
        if event == "call" and own(frame.f_code):
            entered[place(frame.f_code)] = None

    monkeypatch.setattr(backbones, "load", watched)
    sys.setprofile(entering)
    try:
        plan(str(file), budget=100.0, labels=10, usd_per_hour=1.0, preset="smoke", as_json=True)
    except Reached:
        return stack[::-1], list(entered)
    finally:
        sys.setprofile(None)
        monkeypatch.undo()
    raise AssertionError("no model was called")


def test_the_way_to_the_first_pass_is_short(tmp_path, monkeypatch):
    file = tmp_path / "own.jsonl"
    lines = [
        {"prompt": f"Thing: {n}\nKind:", "choices": [" fruit", " vehicle"], "label": n % 2}
        for n in range(30)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    walked(file, monkeypatch)  # imports run class bodies and tables, once
    way, entered = walked(file, monkeypatch)
    assert way[0][0] == "cli/budgets.py"
    assert len(way) == len(set(way)) <= ON_THE_WAY, way
    assert len(entered) <= ENTERED, len(entered)
