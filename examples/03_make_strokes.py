"""One set of strokes in three kinds of file; CellScribble reads the same from each.

    python examples/03_make_strokes.py

Look at the ROIs in Fiji: open nuclei/images/nuclei_01.png, then drop rois/nuclei_01.zip on it.
"""

import argparse
from pathlib import Path

import numpy as np
import roifile

from cellscribble.io.images import open_image
from cellscribble.io.pictures import save_png, to_rgb
from cellscribble.io.scribbles import read_scribbles, save_scribbles

NUCLEI = Path(__file__).parent / "nuclei"
BLUE, RED = (0, 0, 255), (255, 0, 0)
# Points (x, y) in pixels, of one stroke in the background and one on a nucleus.
STROKES = {"bg_1": [(125, 19), (150, 24), (173, 36)], "fg_1": [(93, 110), (94, 116), (96, 122)]}


def save_rois(path: Path) -> None:
    """Freehand lines as the ROI Manager saves them; the name before the number is the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    rois = []
    for name, points in STROKES.items():
        roi = roifile.ImagejRoi.frompoints(np.array(points, float), name=name)
        roi.roitype = roifile.ROI_TYPE.FREELINE
        rois.append(roi)
    roifile.roiwrite(path, rois)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="takes a second anyway")
    parser.add_argument("-o", "--out", type=Path, default=Path("example_out"))
    out = parser.parse_args().out
    image = open_image(NUCLEI / "images" / "nuclei_01.png")

    save_rois(out / "rois" / "nuclei_01.zip")
    drawn = read_scribbles(out / "rois" / "nuclei_01.zip", image.spatial_shape)

    # Numbers: 0 unlabelled, 1 background, 2 nucleus; `save_scribbles` adds the 1 that files have.
    save_scribbles(out / "numbers" / "nuclei_01.tif", drawn.data, overwrite=True)
    # Paint: blue is background, red the first class, on a copy of the image.
    painted = to_rgb(image)
    painted[drawn.data == 0], painted[drawn.data == 1] = BLUE, RED
    save_png(out / "painted" / "nuclei_01.png", painted, overwrite=True)

    for file in ("rois/nuclei_01.zip", "numbers/nuclei_01.tif", "painted/nuclei_01.png"):
        strokes = read_scribbles(out / file, image.spatial_shape, image=image.data)
        counts = [int((strokes.data == k).sum()) for k in range(len(strokes.class_names))]
        print(f"{file}: {strokes.reading}; pixels {dict(zip(strokes.class_names, counts, strict=True))}")
        if not np.array_equal(strokes.data, drawn.data):
            raise SystemExit(f"{file} was read otherwise than the ROIs")


if __name__ == "__main__":
    main()
