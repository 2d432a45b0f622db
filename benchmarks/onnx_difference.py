"""Torch against ONNX Runtime, number by number, over tile sizes.

    python benchmarks/onnx_difference.py RUN

RUN is a run folder of `cellscribble train`, with its exported model. The tiles are those that training
kept of its own images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cellscribble.bundle import open_model
from cellscribble.export.onnx import compare, load_module
from cellscribble.train.run_folder import load_facts, load_tiles

SIZES_PX = {2: (64, 96, 128, 192, 256, 384, 512, 768, 1024), 3: (16, 32, 48, 64, 96)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    facts = load_facts(run)
    module, model = load_module(run, facts), open_model(run / "model.onnx")
    print("tile px  largest difference of a probability")
    for found in compare(module, model, load_tiles(run), SIZES_PX[facts.ndim]):
        print(f"{found.size_px:7d}  {found.largest_difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
