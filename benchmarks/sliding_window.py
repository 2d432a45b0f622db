"""`cellscribble predict` against what a script writer has: torch eager and MONAI's SlidingWindowInferer.

    python benchmarks/sliding_window.py RUN MOSAIC --out sliding_window.csv

RUN is a run folder of `cellscribble train` with its exported model, MOSAIC an OME-Zarr as `engine.py` makes it. Both
use the same weights and all cores. MONAI gets the image in memory, normalised, and leaves its probability in
memory; its time is that of the inferer alone. Ours is the whole program: start, reading, network, objects,
pyramid, writing; with --classes it leaves out the objects, as MONAI does. It takes the run's int8 model, as it does
for everybody on a processor, and with --float32 the float model. MONAI's windows are tried with overlap and
without: 0.25 is its own default and what is needed where objects must not break at the windows' borders. Needs
`pip install monai`.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import torch
from engine import predict
from monai.inferers import SlidingWindowInferer
from table import append_row

from cellscribble.bundle import open_model
from cellscribble.core.intensity import fit_intensity
from cellscribble.export.onnx import load_module
from cellscribble.infer.runner import usable_cores
from cellscribble.io.images import open_image
from cellscribble.train.run_folder import load_facts

COLUMNS = ("mpixel", "who", "window_px", "overlap", "seconds", "mpixel_s", "ours_is_faster")


def monai_s(module: torch.nn.Module, pixels: torch.Tensor, window_px: int, overlap: float) -> float:
    inferer = SlidingWindowInferer((window_px, window_px), sw_batch_size=1, overlap=overlap, mode="gaussian")
    began = time.perf_counter()
    with torch.inference_mode():
        probability = inferer(pixels, lambda windows: module(windows)["probability"])
    assert probability.shape[-2:] == pixels.shape[-2:]
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("mosaic", type=Path)
    parser.add_argument("--windows", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--overlap", type=float, nargs="+", default=[0.0, 0.25])
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    model = open_model(arguments.run / "model.onnx")
    image = open_image(arguments.mosaic)
    mpixel = image.n_pixels / 1e6
    print(f"{platform.machine()}, {usable_cores()} cores, torch {torch.__version__}, {mpixel:.0f} Mpixel")
    ours_s = predict(arguments.mosaic, model)[0]
    module = load_module(arguments.run, load_facts(arguments.run)).eval()
    torch.set_num_threads(usable_cores())
    normalised = fit_intensity(image, model.metadata.intensity).apply(np.asarray(image.data[...]))
    pixels = torch.from_numpy(normalised[np.newaxis]).to(memory_format=torch.channels_last)
    rows: list[tuple[str, int | str, float | str, float]] = [
        ("cellscribble predict", "", "", ours_s),
        ("predict --classes", "", "", predict(arguments.mosaic, model, ["--classes"])[0]),
        ("predict --float32", "", "", predict(arguments.mosaic, model, ["--float32"])[0]),
    ]
    for window_px in arguments.windows:
        rows += [
            ("MONAI", window_px, overlap, monai_s(module, pixels, window_px, overlap)) for overlap in arguments.overlap
        ]
    rows.append(("cellscribble predict", "", "", predict(arguments.mosaic, model)[0]))
    ours_s = (ours_s + rows[-1][3]) / 2
    print("".join(f"{name:>22}" for name in COLUMNS))
    for who, window_px, overlap, seconds in rows:
        row = dict(
            zip(
                COLUMNS,
                (
                    round(mpixel),
                    who,
                    window_px,
                    overlap,
                    round(seconds, 1),
                    round(mpixel / seconds, 2),
                    round(seconds / ours_s, 2),
                ),
                strict=True,
            )
        )
        print("".join(f"{value!s:>22}" for value in row.values()), flush=True)
        if arguments.out:
            append_row(arguments.out, COLUMNS, row)


if __name__ == "__main__":
    main()
