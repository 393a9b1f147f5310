"""Every way of classifying that this project knows: what each needs, and how it is tried.

`NEEDS` says of each, in the order of a table, why a task does not allow it; `run` tries the others.
Those that share a model that is asked or tuned once are tried together.
"""

from collections.abc import Callable, Iterable, Iterator

from frugal import peft
from frugal.choice import language, small
from frugal.choice.served import Served
from frugal.choice.trials import Attempt, Trial, Tried
from frugal.errors import FrugalError
from frugal.spaces import build

UNSERVED = "no server's model was named, and what it may cost (--api and --api-cap)"


def planned(of: Attempt, served: Served | None = None) -> tuple[list[str], list[dict[str, str]]]:
    """The ways that will be tried, and those that this task does not allow, with why."""
    why = {name: refusal(of) for name, refusal in NEEDS.items()}
    why["api"] = served.refusal(of) if served else UNSERVED
    left = [{"strategy": name, "why": reason} for name, reason in why.items() if reason]
    return [name for name, reason in why.items() if not reason], left


def run(of: Attempt, served: Served | None = None) -> Tried:
    """What each way answers; one that fails is left out with what it said, but for the first.

    The language model is then what it was before.
    """
    found: list[Trial] = []
    left_out: list[dict[str, str]] = []
    needs, all_tries = NEEDS, TRIES
    if served:
        needs, all_tries = {**NEEDS, "api": served.refusal}, (*TRIES, (("api",), served.ask))
    for names, tries in all_tries:
        refused = {name: why for name in names if (why := needs[name](of))}
        try:
            if len(refused) < len(names):
                for trial in tries(of):
                    found.append(trial)  # kept whatever comes of the next
        except FrugalError as error:
            if not found:  # nothing can be asked of this model
                raise
            done = {trial.strategy for trial in found}
            refused |= {name: str(error) for name in names if name not in done}
        finally:
            if tuned := peft.of(of.lm.model):
                tuned.detach()
        left_out += [{"strategy": name, "why": why} for name, why in refused.items()]
    if not served:
        left_out.append({"strategy": "api", "why": UNSERVED})
    return Tried(of.task.name, len(of.shots), len(of.scored), of.task.chance, found, left_out)


def _taught(of: Attempt) -> Iterator[Trial]:
    """T-Few ("t-few"), and the small model that it teaches while it is there."""
    teacher = language.tuned(of, "t-few", of.ways.recipe)
    yield teacher
    if not _classes(of):
        yield small.distilled(of, teacher)


def _lora(of: Attempt) -> list[Trial]:
    return [language.tuned(of, "lora", of.ways.lora)]


def _one_shot(of: Attempt) -> str:
    if language.fitting(of, 1, language.ICL_TOKENS):
        return ""
    return "not one solved example fits into a prompt beside the longest query"


def _cached(of: Attempt) -> str:
    if of.lm.family != "causal":
        return f"{of.lm.name} is an encoder–decoder, which reads the whole prompt at every query"
    return _one_shot(of)


def _classes(of: Attempt) -> str:
    try:
        _ = of.classes
    except FrugalError as error:
        return str(error)
    return ""


def _no_classes(of: Attempt) -> str:
    if _classes(of):
        return ""
    return "all examples choose among the same answers, and a classifier has an output for each"


def _two_texts(of: Attempt) -> str:
    return _classes(of) or ("" if len(of.shots) > 1 else "one labelled text makes no pair")


def _design(of: Attempt) -> str:
    try:
        if not (why := _classes(of)):
            build.sized(of.encoder.model, "s4", of.ways.share)
        return why
    except FrugalError as error:  # too few layers, or too few parameters, for the design
        return str(error)


# Why a task does not allow a way; "" where it does.
NEEDS: dict[str, Callable[[Attempt], str]] = {
    "zero-shot": lambda of: "",
    "zero-shot-calibrated": lambda of: "",
    "icl": _one_shot,
    "icl-many": _cached,
    "t-few": lambda of: "",
    "lora": lambda of: "",
    "linear-head": _classes,
    "setfit": _two_texts,
    "small-full": _classes,
    "small-s4": _design,
    "small-distilled": _classes,
    "pairs-head": _no_classes,
    "pairs-full": _no_classes,
}

TRIES: tuple[tuple[tuple[str, ...], Callable[[Attempt], Iterable[Trial]]], ...] = (
    (("zero-shot", "zero-shot-calibrated"), language.zero_shot),
    (("icl",), language.shown),
    (("icl-many",), language.many),
    (("t-few", "small-distilled"), _taught),
    (("lora",), _lora),
    (("linear-head",), small.head),
    (("setfit",), small.setfit),
    (("small-full",), small.full),
    (("small-s4",), small.s4),
    (("pairs-head",), small.pairs_head),
    (("pairs-full",), small.pairs_full),
)
