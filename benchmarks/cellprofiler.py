"""Images a minute through CellProfiler: the program started for each image, kept running, and `predict` on the folder.

    export CELLSCRIBBLE_CELLPROFILER=$(.ci/cellprofiler)
    python benchmarks/cellprofiler.py WORK IMAGES --number 200

IMAGES is a folder of grey 2D images. The pipeline is examples/cellprofiler/nuclei.cppipe. Each way runs on one image,
then on all, and the difference is what the others took: it leaves out how long CellProfiler, the program and the model
take to start, which stands in a column of its own. The clock counts what else the computer did; the time of the
processor does not. WORK is a new folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from machine import processor

ROOT = Path(__file__).parents[1]
KEEP = "Keep the program running between images?"
WAYS = ("a start for each image", "kept running", "predict on the folder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--model", default="nuclei_fluorescence")
    args = parser.parse_args()
    if args.number < 2:
        parser.error("--number must be 2 at least: the first image is counted apart")
    if args.work.exists() and any(args.work.iterdir()):
        parser.error(f"{args.work} is not empty; give a new folder")
    (args.work / "temp").mkdir(parents=True)
    # The server has a place of its own, so that none is running yet.
    os.environ["TMPDIR"] = str((args.work / "temp").resolve())
    own, spent = program(args.work), {}
    try:
        for number in (1, args.number):
            folder = first_images(args.images, args.work, number)
            for way in WAYS:
                spent[way, number] = measure(command(way, own, args.model, folder, args.work), args.work / "temp")
            check_same(folder)
    finally:
        for pid in servers(args.work / "temp"):
            os.kill(pid, signal.SIGTERM)
    write(spent, args.number)


def write(spent: dict[tuple[str, int], tuple[float, float]], number: int) -> None:
    """The table; times of the first image are apart."""
    print(f"{number} images; {time.strftime('%Y-%m-%d')}, {processor()}\n")
    print("| | images a minute | processor, s an image | first image, s | all, s | times faster: clock | processor |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    each = {}
    for way in WAYS:
        (clock, cpu), (first, first_cpu) = spent[way, number], spent[way, 1]
        each[way] = (clock - first) / (number - 1), (cpu - first_cpu) / (number - 1)
        by_clock, by_cpu = (before / own for before, own in zip(each[WAYS[0]], each[way], strict=True))
        print(
            f"| {way} | {60 / each[way][0]:.1f} | {each[way][1]:.2f} | {first:.1f} | {clock:.1f} "
            f"| {by_clock:.1f} | {by_cpu:.1f} |"
        )


def first_images(images: Path, work: Path, number: int) -> Path:
    """A folder with the first `number` images."""
    folder = work / f"images_{number}"
    folder.mkdir()
    for file in sorted(images.iterdir())[:number]:
        shutil.copy(file, folder)
    return folder


def command(way: str, own: Path, model: str, folder: Path, work: Path) -> list[str]:
    """What segments the images of a folder in this way."""
    out = result_of(way, folder)
    if way == WAYS[2]:
        return [str(own), "predict", str(folder), "-m", model, "-o", str(out)]
    pipeline = write_pipeline(work / "pipeline.cppipe", own, model, keep=way == WAYS[1])
    cellprofiler = [os.environ["CELLSCRIBBLE_CELLPROFILER"], "-c", "-r", "-p", str(pipeline), "-o", str(out)]
    return [*cellprofiler, "-i", str(folder), "--plugins-directory", str(ROOT / "plugins" / "cellprofiler")]


def result_of(way: str, folder: Path) -> Path:
    return folder.with_name(f"{folder.name}_{WAYS.index(way)}")


def measure(command: list[str], temporary: Path) -> tuple[float, float]:
    """Seconds of the clock and of the processor, those of the server among them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    start, before = time.perf_counter(), processor_seconds(temporary)
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start, processor_seconds(temporary) - before


def processor_seconds(temporary: Path) -> float:
    """Of the programs that have ended, and of the server, which goes on."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for pid in servers(temporary):
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return used.ru_utime + used.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def servers(temporary: Path) -> list[int]:
    """Processes of `cellscribble serve` that run."""
    return [json.loads(file.read_text())["pid"] for file in temporary.glob("cellscribble-*/*.json")]


def program(work: Path) -> Path:
    """`cellscribble` of this source as a program."""
    path = work.resolve() / "cellscribble"
    path.write_text(f'#!/bin/sh\nexport PYTHONPATH="{ROOT}"\nexec "{sys.executable}" -m cellscribble "$@"\n')
    path.chmod(0o755)
    return path


def write_pipeline(path: Path, own: Path, model: str, *, keep: bool) -> Path:
    """The shipped pipeline with this program and model."""
    text = (ROOT / "examples" / "cellprofiler" / "nuclei.cppipe").read_text(encoding="utf-8")
    settings = {"CellScribble program": own, "Model": model, KEEP: "Yes" if keep else "No"}
    for words, value in settings.items():
        text, n = re.subn(f"^    {re.escape(words)}:.*$", f"    {words}:{value}", text, flags=re.MULTILINE)
        assert n == 1, words
    path.write_text(text, encoding="utf-8")
    return path


def check_same(folder: Path) -> None:
    """The three ways must have found the same objects."""
    first, second, ours = (result_of(way, folder) for way in WAYS)
    assert (first / "MyExpt_Nuclei.csv").read_bytes() == (second / "MyExpt_Nuclei.csv").read_bytes()
    with (first / "MyExpt_Image.csv").open(encoding="utf-8") as file:
        found = sum(int(float(row["Count_Nuclei"])) for row in csv.DictReader(file))
    labels = list(ours.glob("*_labels.tif"))
    assert len(labels) == len(list(folder.iterdir()))
    assert found == sum(int(np.max(tifffile.imread(path))) for path in labels)


if __name__ == "__main__":
    main()
