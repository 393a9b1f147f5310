"""Ten mistakes are planted, one after the other; the harness finds each."""

import harness
import pytest
from planted import PLANTED


@pytest.mark.parametrize(
    ("plant", "door", "said"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED]
)
def test_a_planted_mistake_is_found(plant, door, said, tmp_path):
    door = door(tmp_path)
    with plant():
        for number in range(40):
            found = harness.explore(door, 24, number=number)
            if any(said in where for _, where in found.findings):
                break
        else:
            pytest.fail(f"not found: {plant.__name__}")


def test_ten_mistakes_are_planted():
    assert len({plant for plant, _, _ in PLANTED}) == 10
