import numpy as np
import pytest

from cellscribble.compare.scoring import OFF, ON, Shown, View, score
from cellscribble.compare.trained import Trained
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
