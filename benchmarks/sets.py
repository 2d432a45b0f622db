"""The data sets of the benchmarks, and where each keeps images, strokes and labels.

Layout: <set>/{train,val}/{images,labels[/task],scribbles[_task]_<strokes>}. em_vnc is one volume: its stroked
sections are the training images, the sections between them are scored. nuclei_3d gets the size of its voxels, which
its files do not say. Sets without a val part are scored on the images that were trained on, and their rows say so.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile


@dataclass(frozen=True)
class Layout:
    """task : the folder of labels and strokes; strokes : what there is, without the task"""

    task: str = ""
    strokes: tuple[str, ...] = ("10", "30")


@dataclass(frozen=True)
class Places:
    """Folders of one set; `test_images` are `images` where nothing is unseen."""

    images: Path
    scribbles: Path
    labels: Path
    test_images: Path
    test_labels: Path

    @property
    def unseen(self) -> bool:
        return self.test_images != self.images


SETS = {
    "dsb_fluo": Layout(),
    "dsb_histo": Layout(),
    "dsb_bf": Layout(),
    "monuseg": Layout(),
    "mibi_nuclei": Layout(strokes=("n100", "n200")),
    "isbi2012": Layout("membrane"),
    "em_vnc": Layout("membrane"),
    "nuclei_3d": Layout(),
}

NUCLEI_3D_UM = (0.284, 0.127, 0.127)


def places_of(data: Path, name: str, strokes: str, scratch: Path) -> Places:
    """Folders of the set `name`; `scratch` takes the sections of em_vnc and the images of nuclei_3d."""
    layout = SETS[name]
    train, val = data / name / "train", data / name / "val"
    scribbles = train / "_".join(["scribbles", *([layout.task] if layout.task else []), strokes])
    labels = train / "labels" / layout.task
    if name == "em_vnc":
        return _sections(train / "images" / "vnc.tif", scribbles / "vnc.tif", labels / "vnc.tif", scratch / strokes)
    if not val.is_dir():
        images = _with_voxel_size(train / "images", scratch) if name == "nuclei_3d" else train / "images"
        return Places(images, scribbles, labels, images, labels)
    return Places(train / "images", scribbles, labels, val / "images", val / "labels" / layout.task)


def _sections(images: Path, scribbles: Path, labels: Path, scratch: Path) -> Places:
    places = Places(*(scratch / part for part in ("images", "scribbles", "labels", "test_images", "test_labels")))
    shutil.rmtree(scratch, ignore_errors=True)
    for place in vars(places).values():
        place.mkdir(parents=True)
    drawn = tifffile.imread(scribbles)
    for z, (section, strokes, truth) in enumerate(
        zip(tifffile.imread(images), drawn, tifffile.imread(labels), strict=True)
    ):
        stroked = bool(np.any(strokes))
        tifffile.imwrite((places.images if stroked else places.test_images) / f"z{z}.tif", section)
        tifffile.imwrite((places.labels if stroked else places.test_labels) / f"z{z}.tif", truth)
        if stroked:
            tifffile.imwrite(places.scribbles / f"z{z}.tif", strokes)
    return places


def _with_voxel_size(images: Path, scratch: Path) -> Path:
    out = scratch / "nuclei_3d"
    out.mkdir(parents=True, exist_ok=True)
    z_um, y_um, x_um = NUCLEI_3D_UM
    for path in images.glob("*.tif"):
        about = {"axes": "ZYX", "spacing": z_um, "unit": "um"}
        tifffile.imwrite(
            out / path.name, tifffile.imread(path), imagej=True, resolution=(1 / x_um, 1 / y_um), metadata=about
        )
    return out
