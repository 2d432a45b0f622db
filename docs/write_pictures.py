"""Make the pictures of the README from a demonstration's folder:

cellscribble demo && python docs/write_pictures.py cellscribble_demo
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from cellscribble.demo import Place, find_example, save_sheet

IMAGES = Path(__file__).with_name("images")
WIDTH_PX = 780


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="what `cellscribble demo` wrote")
    place = Place(parser.parse_args().demo)
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / "sheet.png"
        save_sheet(sheet, find_example(), place.results, n_unseen=2)
        shrink(sheet).save(IMAGES / "demo.png", optimize=True)
    # A palette is enough for its heat colours, and a quarter of the bytes.
    seen = shrink(place.run / "seen.png").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    seen.save(IMAGES / "seen.png", optimize=True)


def shrink(source: Path) -> Image.Image:
    """The same picture, narrower."""
    with Image.open(source) as picture:
        size = (WIDTH_PX, round(picture.height * WIDTH_PX / picture.width))
        return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
