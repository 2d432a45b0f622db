"""What the edge calibration brings, and that it harms nowhere: an ablation over five kinds of image.

    python benchmarks/edges.py DATA --minutes 2 --seeds 0 --out edges.csv

For each set, Scribble2Label is trained three times at equal wall time: with the published pseudo-label
rule, with the edge level, and with the edge level and snapping (the default); and partial cross-entropy
once. Each model is scored as exported, decision at the edge level, and at the raw network's 0.5 (the
exported probability is 1 - level there). Masks are read after training only. em_vnc is one volume: its
stroked sections are the training images, the sections between them are scored. With --pace FILE
(paces.csv) budgets are numbers of steps (see pace.py).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import Quiet  # sets the threads' waiting before torch is imported
from pace import pace_of, paced
from sets import Places, places_of
from table import append_row

from cellscribble.bundle import open_model
from cellscribble.config import load_config
from cellscribble.export.onnx import export
from cellscribble.infer.predict import predict
from cellscribble.infer.runner import Runner
from cellscribble.io.images import list_images, open_image
from cellscribble.metrics.overlap import score_masks
from cellscribble.train.inputs import open_training_set
from cellscribble.train.run import train

SETS = ("dsb_fluo", "dsb_histo", "dsb_bf", "monuseg", "em_vnc")
VARIANTS: dict[str, dict[str, Any]] = {
    "pce": {"method": "partial_cross_entropy"},
    "s2l published rule": {"method_settings": {"edge_calibration": False, "edge_snapping": False}},
    "s2l edge level": {"method_settings": {"edge_snapping": False}},
    "s2l edge level + snapping": {},
}
COLUMNS = ("set", "variant", "seed", "level", "iou", "iou_raw_half", "wall_s")


def measure(
    data: Path, name: str, places: Places, variant: str, minutes: float, seed: int, pace: Path | None
) -> dict[str, Any]:
    run = Path(tempfile.mkdtemp(prefix="cellscribble_"))
    config = load_config(None, {"minutes": minutes, "seed": seed, **VARIANTS[variant]})
    training_set = open_training_set(places.images, places.scribbles)
    speed = pace_of(pace, data, name, training_set, config.method) if pace else None
    began = time.monotonic()
    with paced(speed):
        result = train(training_set, config, run, Quiet())
    export(run, run / "model.onnx")
    wall_s = time.monotonic() - began
    model = open_model(run / "model.onnx")
    runner = Runner(model)
    level = result.calibration.edge_level
    scores = []
    for path in list_images(places.test_images):
        foreground = 1 - np.asarray(predict(open_image(path), model, runner=runner).probability[0])
        truth = np.asarray(open_image(places.test_labels / path.name).data[0])
        scores.append([score_masks(foreground > t, truth).iou for t in (0.5, 1 - level)])
    shutil.rmtree(run)
    iou, raw = np.mean(scores, axis=0)
    return {"level": level, "iou": float(iou), "iou_raw_half": float(raw), "wall_s": wall_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", nargs="+", default=list(SETS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--strokes", default="30")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--pace", type=Path, help="budgets as steps at these paces (paces.csv)")
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    print(time.strftime("%Y-%m-%d %H:%M"), f"{arguments.minutes:g} min, strokes {arguments.strokes}")
    print("  ".join(f"{c:>12}" for c in COLUMNS))
    scratch = Path(tempfile.mkdtemp(prefix="cellscribble_"))
    for name in arguments.set:
        places = places_of(arguments.data, name, arguments.strokes, scratch)
        for variant in arguments.variants:
            for seed in arguments.seeds:
                row = {"set": name, "variant": variant, "seed": seed}
                row |= measure(arguments.data, name, places, variant, arguments.minutes, seed, arguments.pace)
                cells = [row[c] for c in COLUMNS]
                print("  ".join(f"{c:12.4f}" if isinstance(c, float) else f"{c!s:>12}" for c in cells), flush=True)
                if arguments.out:
                    append_row(arguments.out, COLUMNS, row)


if __name__ == "__main__":
    main()
