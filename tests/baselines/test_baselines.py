import subprocess
import sys

import numpy as np
import pytest

from cellscribble.baselines import random_forest
from cellscribble.baselines.registry import BASELINES, get_baseline
from cellscribble.core.errors import InputError, MissingExtraError
from cellscribble.core.intensity import IntensityRule
from cellscribble.data.samples import make_sample
from cellscribble.methods.registry import METHODS
from tests.conftest import make_balls, make_disks


def sample_of(example, image=None):
    return make_sample(image or example.image, example.scribbles.copy(), IntensityRule())


def iou(found, mask):
    return ((found > 0) & (mask > 0)).sum() / ((found > 0) | (mask > 0)).sum()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("make", [make_disks, make_balls])
def test_bright_cells_of_another_image_are_found(name, make):
    learnt, new = sample_of(make(0)), make(1)
    probability = get_baseline(name)([learnt], 2, 0)(sample_of(new).normalised())
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-6)
    assert iou(probability.argmax(axis=0), new.mask) > 0.6


def test_otsu_is_scikit_images_and_the_strokes_tell_dark_cells_from_bright(disks_2d):
    from skimage.filters import threshold_otsu

    image = disks_2d.image
    dark = image.with_data(np.asarray(2000 - image.data.astype(int), np.uint16))
    bright, inverted = sample_of(disks_2d), sample_of(disks_2d, dark)
    for sample, above in ((bright, True), (inverted, False)):
        grey = sample.normalised()[0]
        found = get_baseline("otsu")([sample], 2, 0)(sample.normalised())[1] > 0.5
        expected = grey > threshold_otsu(grey) if above else -grey > threshold_otsu(-grey)
        np.testing.assert_array_equal(found, expected)


def test_otsus_probability_rises_with_brightness(disks_2d):
    sample = sample_of(disks_2d)
    grey, p = sample.normalised()[0].ravel(), get_baseline("otsu")([sample], 2, 0)(sample.normalised())[1].ravel()
    assert (np.diff(p[np.argsort(grey)]) >= 0).all()


def test_otsu_refuses_three_classes(disks_2d):
    with pytest.raises(InputError, match="the strokes have 3; leave otsu out"):
        get_baseline("otsu")([sample_of(disks_2d)], 3, 0)


def test_the_forest_is_the_same_in_blocks_and_for_the_same_seed(disks_2d, monkeypatch):
    sample = sample_of(disks_2d)
    image = np.tile(sample.normalised(), (1, 3, 3))
    forest = get_baseline("random_forest")([sample], 2, 3)
    whole = forest(image)
    np.testing.assert_array_equal(whole, get_baseline("random_forest")([sample], 2, 3)(image))
    monkeypatch.setitem(random_forest.BLOCK_PX, 2, (80, 96))
    cut = forest(image)
    assert np.abs(cut - whole).max() < 0.05  # trees are steps: a rounding may turn one of a hundred
    assert (cut.argmax(axis=0) == whole.argmax(axis=0)).mean() > 0.999


def test_the_forest_learns_several_classes(disks_2d):
    strokes = disks_2d.scribbles.copy()
    strokes[40:][strokes[40:] == 1] = 2
    data = disks_2d.image.data.copy()
    data[:, 40:][:, disks_2d.mask[40:] > 0] += 1500
    sample = make_sample(disks_2d.image.with_data(data), strokes, IntensityRule())
    found = get_baseline("random_forest")([sample], 3, 0)(sample.normalised()).argmax(axis=0)
    assert (found[50:55, 10:14] == 2).all()
    assert (found[10:14, 10:14] == 1).all()


def test_without_scikit_learn_it_says_what_to_install(disks_2d, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cellscribble\[compare\]'"):
        get_baseline("random_forest")([sample_of(disks_2d)], 2, 0)


def test_baselines_are_no_methods_to_train():
    assert not BASELINES.keys() & METHODS.keys()
    with pytest.raises(InputError, match="no baseline 'svm'; choose one of otsu, random_forest"):
        get_baseline("svm")


def test_they_need_no_torch():
    code = "import sys; from cellscribble.baselines import otsu, random_forest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
