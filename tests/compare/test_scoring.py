from dataclasses import replace

import numpy as np
import pytest

from cellscribble.compare.exam import UNSEEN, Exam
from cellscribble.compare.scoring import OFF, ON, Shown, View, score
from cellscribble.compare.trained import Trained
from cellscribble.core.volume import ImageVolume
from cellscribble.data.samples import find_strokes
from cellscribble.segment.fit import default_parameters


@pytest.fixture
def blurred(disks_2d):
    """A method whose raw probability is 0.8 on the disks' rim, 0.9 inside, and whose edges lie at 0.85."""
    from scipy import ndimage

    fat = ndimage.binary_dilation(disks_2d.mask > 0, iterations=2)
    foreground = np.where(disks_2d.mask > 0, 0.9, np.where(fat, 0.8, 0.1)).astype(np.float32)
    raw = np.stack([1 - foreground, foreground])
    return Trained(lambda image: raw, 0.85, "instances", default_parameters(6.0).to_dict())


def test_the_edge_level_is_switched_and_nothing_else(disks_2d, blurred, tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "m.tif", disks_2d.mask.astype(np.uint16))
    strokes = find_strokes(disks_2d.scribbles, 2)
    marks, drawn = score(blurred, iter([View(disks_2d.image, tmp_path / "m.tif", strokes, Shown("a", False))]), 2, 0)
    (on,), (off,) = (marks[edge].images.values() for edge in (ON, OFF))
    assert on.iou == 1
    assert off.iou < 0.7  # two pixels fatter all round
    assert on.auc == off.auc == 1  # the order of the pixels is the same
    assert marks[ON].holdout["score"] == 1
    assert marks[ON].holdout["n_strokes"] == (12, 9)
    assert len(np.unique(drawn[Shown("a", False)])) == 10


def test_a_mask_without_single_objects_is_scored_by_pixels(disks_2d, blurred, tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "m.tif", ((disks_2d.mask > 0) * 255).astype(np.uint8))
    marks, drawn = score(blurred, iter([View(disks_2d.image, tmp_path / "m.tif", (), None)]), 2, 0)
    (on,) = marks[ON].images.values()
    assert on.iou == 1
    assert np.isnan(on.panoptic_quality)
    assert marks[ON].holdout is None
    assert drawn == {}


def test_numbers_that_are_classes_are_scored_as_classes(tmp_path):
    import tifffile

    truth = np.zeros((20, 30), np.uint8)
    truth[2:8, 2:8] = truth[12:18, 2:8] = 1
    truth[2:8, 12:28] = 2
    tifffile.imwrite(tmp_path / "cells.tif", truth)
    raw = np.stack([truth == k for k in range(3)]).astype(np.float32)
    # The second class is taken for the first in half of it.
    raw[1:, 2:8, 20:28] = raw[2:0:-1, 2:8, 20:28]
    exam = Exam(UNSEEN, {"cells": tmp_path / "cells.tif"}, largest=2)
    assert exam.is_of_classes(3)
    # Of one class of cells numbers are objects, and so they are where there are more than classes.
    assert not exam.is_of_classes(2)
    assert not replace(exam, largest=3).is_of_classes(3)
    image = ImageVolume(np.zeros((1, 20, 30), np.uint8), "CYX", None, "cells")
    trained = Trained(lambda image: raw, 0.5, "instances", default_parameters(6.0).to_dict())
    marks, _ = score(trained, iter([View(image, tmp_path / "cells.tif", (), None, of_classes=True)]), 3, 0)
    (found,) = marks[ON].images.values()
    assert found.iou == 1
    # Class 1: 72 of 72 + 48 px; class 2: 48 of 96.
    assert found.mean_class_iou == pytest.approx((72 / 120 + 48 / 96) / 2)
    assert np.isnan(found.f1)
