"""ROIs of labels as the real ImageJ fills them."""

import numpy as np
import pytest
import tifffile

from cellscribble.bridge.macro_text import quote
from cellscribble.io.roi_labels import save_label_rois
from cellscribble.io.tiff import save_labels

pytestmark = pytest.mark.imagej

FILL = """
roiManager("reset");
open({labels});
run("Duplicate...", "title=filled duplicate");
run("Set...", "value=0 stack");
filled = getImageID();
roiManager("open", {zip});
for (i = 0; i < roiManager("count"); i++) {{
    selectImage(filled);
    roiManager("select", i);
    parts = split(RoiManager.getName(i), "_");
    changeValues(0, 65535, parseInt(parts[0]));
}}
run("Select None");
saveAs("Tiff", {out});
"""


@pytest.mark.parametrize("shape", [(40, 50), (4, 20, 24), (30, 60_535)])
def test_imagej_fills_the_very_pixels(imagej, rng, shape):
    """Random pixels of few labels: holes, corners that touch, many parts; a stack; ImageJ's widest image."""
    labels = rng.integers(0, 5, shape)
    if shape[-1] > 1000:
        labels[:, : shape[-1] - 60] = 0
    names = {
        name: imagej.folder / f"{name}.{suffix}"
        for name, suffix in (("labels", "tif"), ("zip", "zip"), ("out", "tif"))
    }
    save_labels(names["labels"], labels)
    save_label_rois(names["zip"], labels)
    imagej.run(FILL.format(**{name: quote(path) for name, path in names.items()}))
    np.testing.assert_array_equal(tifffile.imread(names["out"]), labels)
