"""Make the picture of docs/cellprofiler.md from the folder `measured` that its first command writes:

python docs/write_cellprofiler_picture.py measured
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cellscribble.io.images import open_image
from cellscribble.io.pictures import contact_sheet, overlay_labels, save_png, to_rgb

ROOT = Path(__file__).parents[1]
SHOWN = ("unseen_02", "unseen_05")
PART_PX = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path, help="the folder of CellProfiler's results")
    measured, tiles = parser.parse_args().measured, []
    for name in SHOWN:
        part = (slice(PART_PX), slice(PART_PX))
        rgb = to_rgb(open_image(ROOT / "examples" / "nuclei" / "test_images" / f"{name}.png"))[part]
        labels = np.asarray(open_image(measured / f"{name}_nuclei.tiff").data[0])[part]
        n_nuclei = len(np.unique(labels[labels > 0]))
        tiles += [(name, rgb), (f"{n_nuclei} nuclei", overlay_labels(rgb, labels))]
    save_png(ROOT / "docs" / "images" / "cellprofiler.png", contact_sheet(tiles, 4, PART_PX), overwrite=True)


if __name__ == "__main__":
    main()
