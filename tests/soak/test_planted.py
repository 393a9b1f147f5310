"""Ten mistakes are planted, one after the other; the harness finds each."""

import harness
import pytest
from planted import PLANTED


@pytest.mark.parametrize(
    ("plant", "door", "said"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED]
)
def test_a_planted_mistake_is_found(plant, door, said, tmp_path):
    door = door(tmp_path)

    def seen(number):
        found = harness.explore(door, 24, number=number)
        return any(said in where for _, where in found.findings)

    with plant():
        number = next((n for n in range(100) if seen(n)), None)
    assert number is not None, "not found"
    assert not seen(number), "it is found where nothing is planted, too"


def test_ten_mistakes_are_planted():
    assert len({plant for plant, _, _ in PLANTED}) == 10
