"""A short soak: some inputs through every door; `make soak` sends thousands."""

import harness
import pytest
from doors import MAKERS as FILES
from more_doors import MAKERS as RUNS

MAKERS = FILES | RUNS


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_input_is_accepted_as_it_is_or_refused_in_one_line(name, tmp_path):
    found = harness.explore(MAKERS[name](tmp_path), 12)
    assert found.counts["inputs"] == 12
    assert found.counts["changed"] >= 6
    assert found.counts["accepted"] + found.counts["refused"] == found.counts["inputs"], "\n".join(
        map(str, found.findings.values())
    )


def test_what_is_no_answer_is_a_finding():
    """The harness itself: an error without words, an exit, a panic, a clock that rings."""

    def enter(case):
        raise case.data

    door = harness.Door("none", {}, enter)

    def kind(error, of="changed"):
        return harness.attempt(door, harness.Case(of, "", error))[0]

    assert kind(harness.FrugalError("x.jsonl: no")) == "refused"
    assert kind(harness.FrugalError("x.jsonl: no"), "sound") == "wrong"
    assert kind(harness.FrugalError(" \n")) == "wrong"
    assert kind(harness.FrugalError("x" * 3000)) == "wrong"
    assert kind(harness.Wrong("other numbers: 1")) == "wrong"
    for error in (SystemExit(1), BaseException("panic"), MemoryError(), RecursionError()):
        assert kind(error) == "traceback"


def test_a_table_adds_up_and_a_finding_keeps_its_smallest_input():
    found = harness.Found("a door")
    for data in ("xxx", "x", "xx"):
        found.add(harness.Case("changed", data, data), "traceback", "KeyError", "k")
    found.add(harness.Case("wild", "", 1), "refused")
    (finding,) = found.findings.values()
    assert (finding.case.data, finding.times) == ("x", 3)
    assert harness.table([found]).splitlines()[-1].split() == ["all", "4", "3", "0", "1", "0", "3"]
