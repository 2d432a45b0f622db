"""Write the pictures of docs/fiji.md from ImageJ's real window: python docs/write_fiji_pictures.py

Needs what the tests marked `imagej` need (see tests/bridge/imagej.py) and ImageMagick.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cellscribble.bridge.fiji import install  # noqa: E402
from cellscribble.bridge.macro_text import quote  # noqa: E402
from tests.bridge.imagej import ImageJ, virtual_screen, wait_for  # noqa: E402

EXAMPLES = ROOT / "examples" / "nuclei" / "images"
ZOOM = 2
NUCLEI = [
    ((111, 85), (117, 84)),
    ((134, 112), (136, 120)),
    ((139, 131), (142, 138)),
    ((52, 138), (57, 136)),
    ((122, 177), (118, 188)),
    ((219, 36), (223, 30)),
    ((7, 59), (14, 64)),
    ((61, 221), (69, 214)),
]
BACKGROUND = [((170, 40), (200, 90), (190, 150)), ((150, 215), (200, 230)), ((40, 15), (70, 12))]


def main() -> None:
    """Draw with the mouse, predict with the shipped model, and keep what the screen shows."""
    with tempfile.TemporaryDirectory() as folder, virtual_screen() as display:
        imagej = ImageJ(Path(folder), display)
        images = Path(folder) / "images"
        images.mkdir()
        for path in sorted(EXAMPLES.glob("*.png"))[:3]:
            shutil.copy(path, images)
        (imagej.plugins / "plugins").mkdir(parents=True)
        install(imagej.plugins)
        annotate(imagej, images)
        predict(imagej, images)
        suggest(imagej, images)


def annotate(imagej: ImageJ, images: Path) -> None:
    ready = imagej.folder / "ready"
    process = imagej.start(
        "-macro",
        f"""
        run("CellScribble Annotate", "images=[" + {quote(images)} + "] classes=[nucleus] width=4");
        run("Set... ", "zoom={100 * ZOOM}");
        getLocationAndSize(x, y, w, h);
        File.saveString("" + x + " " + y, {quote(ready)});
        """,
    )
    left, top = (int(n) for n in wait_for(lambda: ready.exists() and ready.read_text().split()))
    time.sleep(1)
    for key, strokes in (("1", NUCLEI), ("0", BACKGROUND)):
        imagej.xdotool("key", key)
        time.sleep(0.5)
        for points in strokes:
            dense = np.concatenate([np.linspace(a, b, 8) for a, b in itertools.pairwise(points)])
            for i, (x, y) in enumerate(dense):
                imagej.xdotool("mousemove", left + 5 + round(ZOOM * x), top + 16 + round(ZOOM * y))
                if i == 0:
                    imagej.xdotool("mousedown", 1)
                time.sleep(0.05)
            imagej.xdotool("mouseup", 1)
            time.sleep(1)
    keep(imagej, "fiji_annotate.png", (520, 0, 1140, 620))
    process.kill()
    process.communicate()


def predict(imagej: ImageJ, images: Path) -> None:
    steps = f"""
        open({quote(images / "nuclei_02.png")});
        run("Set... ", "zoom={100 * ZOOM}");
        setLocation(30, 90);
        run("CellScribble Predict", "model=nuclei_fluorescence rois");
        run("Set... ", "zoom={100 * ZOOM}");
        setLocation(570, 90);
        selectWindow("ROI Manager");
        setLocation(1100, 90);
    """
    show(imagej, steps, "fiji_predict.png", (20, 0, 1280, 640))


def suggest(imagej: ImageJ, images: Path) -> None:
    steps = f"""
        open({quote(images / "nuclei_03.png")});
        run("Set... ", "zoom={100 * ZOOM}");
        setLocation(30, 90);
        run("CellScribble Suggest regions", "model=nuclei_fluorescence number=5 size=64");
        selectWindow("ROI Manager");
        setLocation(560, 90);
    """
    show(imagej, steps, "fiji_suggest.png", (20, 0, 1180, 640))


def show(imagej: ImageJ, steps: str, name: str, box: tuple[int, int, int, int]) -> None:
    """Keep what the screen shows after a macro's steps."""
    ready = imagej.folder / f"{name}.ready"
    process = imagej.start("-macro", f"""{steps} wait(800); File.saveString("x", {quote(ready)});""")
    wait_for(ready.exists, 60)
    time.sleep(1)
    keep(imagej, name, box)
    process.kill()
    process.communicate()


def keep(imagej: ImageJ, name: str, box: tuple[int, int, int, int]) -> None:
    screen = imagej.screenshot()
    assert screen is not None, "ImageMagick is not installed"
    Image.open(screen).convert("RGB").crop(box).quantize(64).save(ROOT / "docs" / "images" / name, optimize=True)


if __name__ == "__main__":
    if not shutil.which("import"):
        sys.exit("ImageMagick is missing: apt-get install imagemagick")
    main()
