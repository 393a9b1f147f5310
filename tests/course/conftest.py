"""Every figure that a test here makes can be read: `drawn.faults` finds nothing in it."""

import pytest
from drawn import faults
from matplotlib.figure import Figure

from frugal_course.figures import ideas, style

FONTS = "test_letters_that_the_font_lacks_come_from_another_or_are_boxes_without_a_warning"


@pytest.fixture(autouse=True)
def _readable(request, monkeypatch):
    made = []

    def recorded(*args, **kwargs):
        made.append(Figure(*args, **kwargs))
        return made[-1]

    for module in (style, ideas):
        monkeypatch.setattr(module, "Figure", recorded)
    yield
    if request.node.originalname != FONTS:
        found = {str(i): told for i, figure in enumerate(made) if (told := faults(figure))}
        assert not found
