"""Pictures of pages and the names in them."""

import matplotlib.figure
import numpy as np

from skimbal.reports import draw_confusion_matrix, shorten_name
from tests.study.data import LONG


def test_confusion_matrix_shows_counts_and_shares_of_the_true_class():
    ax = matplotlib.figure.Figure().add_subplot()
    draw_confusion_matrix(np.array([[30, 10], [1, 3]]), ["a", "b"], ax)
    assert [t.get_text() for t in ax.texts] == ["30\n75 %", "10\n25 %", "1\n25 %", "3\n75 %"]
    assert ax.images[0].get_array().tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_long_names_keep_both_ends_in_pictures():
    assert shorten_name("short", 1) == "short"
    assert shorten_name("a b " * 30 + "end", 1) == "a b a b a b a b a …b a b end"
    lines = shorten_name(LONG, 3).split("\n")
    assert " ".join(lines) == LONG
    assert max(map(len, lines)) <= 28
    assert shorten_name("x" * 500, 3).count("\n") == 2
