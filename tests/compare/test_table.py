import math

import pytest

from cellscribble.compare.table import over_seeds, spread


def test_mean_and_spread_over_seeds_by_hand():
    rows = [
        {"method": "a", "seed": 0, "iou": 0.8, "auc": math.nan},
        {"method": "b", "seed": 0, "iou": 0.5, "auc": 1.0},
        {"method": "a", "seed": 1, "iou": 0.9, "auc": math.nan},
    ]
    found = over_seeds(rows, ("method",))
    assert list(found) == [("a",), ("b",)]
    assert found["a",]["iou"].mean == pytest.approx(0.85)
    assert found["a",]["iou"].deviation == pytest.approx(0.05 * math.sqrt(2))
    assert found["a",]["iou"].text() == ".850 ±.071"
    assert found["a",]["auc"].text() == "-"
    assert found["b",]["iou"].text() == ".500"


def test_one_is_one():
    assert spread([1.0, "text"]).text() == "1.000"
