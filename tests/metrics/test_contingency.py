import numpy as np
import pytest

from cellscribble.core.errors import InputError
from cellscribble.metrics import contingency
from cellscribble.metrics.contingency import count_overlaps

TRUTH = np.array([[1, 1, 0], [2, 2, 2]])
LABELS = np.array([[5, 0, 0], [5, 5, 7]])


def test_each_pair_that_meets_is_counted() -> None:
    table = count_overlaps(LABELS, TRUTH)
    counted = {(t, p): n for t, p, n in zip(table.truth, table.labels, table.pixels, strict=True)}
    assert counted == {(0, 0): 1, (1, 0): 1, (1, 5): 1, (2, 5): 2, (2, 7): 1}
    assert dict(zip(table.truth_ids, table.truth_pixels, strict=True)) == {0: 1, 1: 2, 2: 3}
    assert dict(zip(table.label_ids, table.label_pixels, strict=True)) == {0: 2, 5: 3, 7: 1}
    assert (table.n_truth, table.n_labels) == (2, 2)


def test_sorting_and_counting_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count_overlaps(LABELS, TRUTH)
    monkeypatch.setattr(contingency, "_DENSE_CELLS", 0)
    for a, b in zip(
        *(
            [getattr(t, name) for name in ("truth", "labels", "pixels", "truth_pixels", "label_pixels")]
            for t in (counted, count_overlaps(LABELS, TRUTH))
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_numbers_up_to_uint32_are_counted() -> None:
    huge = np.array([[0, 2**32 - 1]], np.uint32)
    table = count_overlaps(huge, huge)
    assert table.truth.tolist() == [0, 2**32 - 1]
    assert table.pixels.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 2), int), "neither cropped nor scaled"),
        (np.zeros((2, 3)), "expected whole numbers"),
        (np.full((2, 3), -1), "holds -1"),
    ],
)
def test_what_is_no_label_image_is_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        count_overlaps(labels, TRUTH)
