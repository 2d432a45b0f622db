from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.errors import InputError
from cellscribble.data.simulate import background_branches, simulate_scribbles

REAL = Path(__file__).parents[3] / "shared/data/dsb_fluo/train"


def _cells(n: int = 10) -> np.ndarray:
    labels = np.zeros((40, 20 * n), np.uint16)
    for k in range(n):
        labels[12:28, 20 * k + 4 : 20 * k + 16] = 5 + k
    return labels


def _drawn(scribbles: np.ndarray, labels: np.ndarray) -> set[int]:
    return set(np.unique(labels[scribbles > 0]).tolist())


@pytest.mark.parametrize(("share", "n_drawn"), [(0.0, 0), (0.1, 1), (0.11, 2), (0.3, 3), (1.0, 10)])
def test_the_share_is_of_objects_rounded_up(share: float, n_drawn: int, rng: np.random.Generator) -> None:
    labels = _cells()
    assert len(_drawn(simulate_scribbles(labels, share, rng), labels)) == n_drawn


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=20)
def test_a_larger_share_holds_all_strokes_of_a_smaller_one(seed: int, one: float, two: float) -> None:
    low, high = (simulate_scribbles(_cells(5), s, np.random.default_rng(seed)) for s in sorted((one, two)))
    np.testing.assert_array_equal(high[low >= 0], low[low >= 0])


def test_strokes_lie_where_their_class_is(rng: np.random.Generator) -> None:
    labels = _cells()
    scribbles = simulate_scribbles(labels, 1.0, rng)
    assert scribbles.dtype == np.int16
    assert (labels[scribbles > 0] > 0).all()
    assert (labels[scribbles == 0] == 0).all()
    assert (scribbles == 0).sum() >= 5


def test_touching_cells_get_a_stroke_each(rng: np.random.Generator) -> None:
    labels = np.zeros((20, 30), int)
    labels[4:16, 3:15], labels[4:16, 15:27] = 1, 2
    assert _drawn(simulate_scribbles(labels, 1.0, rng), labels) == {1, 2}


def test_each_object_takes_its_class(rng: np.random.Generator) -> None:
    labels = _cells(2)
    scribbles = simulate_scribbles(labels, 1.0, rng, object_class={5: 1, 6: 2})
    assert np.unique(scribbles[labels == 5]).tolist() == [-1, 1]
    assert np.unique(scribbles[labels == 6]).tolist() == [-1, 2]


def test_branches_are_cut_at_junctions_and_long_enough() -> None:
    labels = np.ones((41, 41), int)
    labels[18:23] = labels[:, 18:23] = 0  # a cross of background
    branches = background_branches(labels)
    assert len(branches) == 4
    assert min(len(y) for y, _ in branches) >= 5


def test_an_image_without_background_or_without_cells_is_drawn(rng: np.random.Generator) -> None:
    full = simulate_scribbles(np.full((20, 30), 3), 1.0, rng)
    assert np.unique(full).tolist() == [-1, 1]
    assert not (simulate_scribbles(np.zeros((20, 30), int), 1.0, rng) > 0).any()


def test_of_a_volume_only_some_sections_are_drawn(rng: np.random.Generator) -> None:
    volume = np.stack([_cells(3)] * 23)
    scribbles = simulate_scribbles(volume, 1.0, rng)
    assert np.flatnonzero((scribbles >= 0).any(axis=(1, 2))).tolist() == [5, 15]
    scribbles = simulate_scribbles(volume, 1.0, rng, sections=[0, 22])
    assert np.flatnonzero((scribbles > 0).any(axis=(1, 2))).tolist() == [0, 22]
    with pytest.raises(InputError, match="section 23 is not in a volume of 23"):
        simulate_scribbles(volume, 1.0, rng, sections=[23])


def test_wrong_input_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="share of objects is 10"):
        simulate_scribbles(_cells(), 10, rng)
    with pytest.raises(InputError, match=r"expected an image \(Y, X\) or a volume"):
        simulate_scribbles(np.zeros(5, int), 0.1, rng)
    with pytest.raises(InputError, match="sections are of volumes"):
        simulate_scribbles(_cells(), 0.1, rng, sections=[0])


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the project's benchmark data")
def test_strokes_are_as_many_as_those_of_the_benchmark() -> None:
    ours, theirs = [], []
    for path in sorted((REAL / "labels").glob("*.tif"))[::16]:
        scribbles = simulate_scribbles(tifffile.imread(path), 0.1, np.random.default_rng(0))
        benchmark = tifffile.imread(REAL / "scribbles_10" / path.name).astype(int) - 1
        ours.append([(scribbles > 0).mean(), (scribbles == 0).mean()])
        theirs.append([(benchmark > 0).mean(), (benchmark == 0).mean()])
    np.testing.assert_allclose(np.mean(ours, axis=0), np.mean(theirs, axis=0), rtol=0.35)
