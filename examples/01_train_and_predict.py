"""From strokes to scored labels with the command line, as you would type it.

python examples/01_train_and_predict.py
python examples/01_train_and_predict.py --set histology --minutes 5
python examples/01_train_and_predict.py --quick
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def cellscribble(*args: object) -> None:
    words = [str(arg) for arg in args]
    print("\n$", shlex.join(["cellscribble", *words]), flush=True)
    subprocess.run([sys.executable, "-m", "cellscribble", *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=["nuclei", "histology"], default="nuclei", help="which images")
    parser.add_argument("--minutes", type=float, default=2.0, help="time to train")
    parser.add_argument("--quick", action="store_true", help="two epochs only: the model will be poor")
    parser.add_argument("-o", "--out", type=Path, default=Path("example_out"))
    choice = parser.parse_args()
    data, run, results = HERE / choice.set, choice.out / f"{choice.set}_run", choice.out / f"{choice.set}_results"
    length = ["--epochs", 2] if choice.quick else ["--minutes", choice.minutes]

    cellscribble("train", data / "images", data / "scribbles", "-o", run, *length)
    cellscribble("info", run)
    cellscribble("predict", data / "test_images", "-m", run, "-o", results, "--overlay", "--probability")
    cellscribble("evaluate", results, data / "test_labels")


if __name__ == "__main__":
    main()
