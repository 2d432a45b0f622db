"""Every script in examples/ runs, as a user would start it."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cellscribble.io.images import open_image
from cellscribble.io.scribbles import read_scribbles

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
FAST = ("03_make_strokes.py",)
SLIDE = Path(__file__).parents[2] / "shared" / "data" / "wsi" / "CMU-1-Small-Region.svs"


def test_every_script_is_listed_in_the_readme():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert SCRIPTS
    for script in SCRIPTS:
        assert f"`{script.name}`" in text


def test_every_image_has_its_source():
    rows = (EXAMPLES / "sources.csv").read_text(encoding="utf-8").split()[1:]
    listed = {row.split(",")[0] for row in rows}
    found = {p.relative_to(EXAMPLES).as_posix() for p in EXAMPLES.glob("*/*images/*.png")}
    assert listed == found


def test_the_sample_stays_small():
    assert sum(p.stat().st_size for p in EXAMPLES.rglob("*") if p.is_file()) < 2_000_000


@pytest.mark.parametrize(
    "script", [pytest.param(s, id=s.name, marks=() if s.name in FAST else pytest.mark.slow) for s in SCRIPTS]
)
def test_script_runs(script, tmp_path):
    root = str(EXAMPLES.parent)
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "-o", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_strokes_of_the_script_lie_on_what_they_name():
    points = runpy.run_path(str(EXAMPLES / "03_make_strokes.py"))["STROKES"]
    image = np.asarray(open_image(EXAMPLES / "nuclei" / "images" / "nuclei_01.png").data[0]).astype(int)
    on_nucleus = [image[y, x] for x, y in points["fg_1"]]
    on_background = [image[y, x] for x, y in points["bg_1"]]
    assert min(on_nucleus) > 1.5 * max(on_background)


@pytest.mark.skipif(not SLIDE.exists(), reason="the slide is no part of the project")
def test_strokes_on_the_slide_lie_on_what_they_name():
    image = open_image(SLIDE)
    strokes = read_scribbles(EXAMPLES / "slide" / "CMU-1-Small-Region.zip", image.spatial_shape)
    assert strokes.class_names == ("background", "nucleus")
    red = np.asarray(image.data[0])
    # Haematoxylin lets little red through; glass, cytoplasm and collagen let most of it through, ink and horn do not.
    assert np.median(red[strokes.data == 1]) < 100 < np.median(red[strokes.data == 0])
    assert (red[strokes.data == 1] < 150).mean() > 0.95
