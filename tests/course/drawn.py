"""What a figure shows: points, words, and whether words stand on each other."""

import itertools


def points(axes):
    return {(x, y) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}


def words(axes):
    return [text.get_text() for text in axes.texts]


def apart(figure, texts):
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    return not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
