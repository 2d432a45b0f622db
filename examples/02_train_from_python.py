"""The same from Python: train, export, and use the model as a function of an image.

    python examples/02_train_from_python.py
    python examples/02_train_from_python.py --quick

The first half needs PyTorch. The second does not: a model file is all that prediction needs.
"""

import argparse
from pathlib import Path

from cellscribble.bundle import open_model
from cellscribble.config import TrainConfig
from cellscribble.infer.predict import predict
from cellscribble.io.images import open_image
from cellscribble.io.tiff import save_labels
from cellscribble.metrics.pairs import read_labels
from cellscribble.metrics.scores import evaluate

NUCLEI = Path(__file__).parent / "nuclei"


class PrintReporter:
    """Hears what happens during training; a notebook would draw it."""

    def say(self, text: str) -> None:
        print(text)

    def tick(self, tick) -> None:
        pass

    def part(self, what: str, done: float, total: float) -> None:
        pass


def train_model(run: Path, config: TrainConfig) -> Path:
    """Train on the shipped nuclei; the path of the model."""
    from cellscribble.export.onnx import export
    from cellscribble.train.inputs import open_training_set
    from cellscribble.train.run import train

    training_set = open_training_set(NUCLEI / "images", NUCLEI / "scribbles")
    print(f"{len(training_set.pairs)} images, classes {', '.join(training_set.classes)}")
    train(training_set, config, run, PrintReporter())
    model, _ = export(run, run / "model.onnx", overwrite=True)
    return model.path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two epochs only: the model will be poor")
    parser.add_argument("-o", "--out", type=Path, default=Path("example_out"))
    choice = parser.parse_args()
    config = TrainConfig(minutes=None, epochs=2) if choice.quick else TrainConfig(minutes=2)

    model = open_model(train_model(choice.out / "python_run", config))
    image = open_image(NUCLEI / "test_images" / "unseen_01.png")
    prediction = predict(image, model)
    print(f"{image.name}: {prediction.n_objects} objects, probability {prediction.probability.shape}")
    save_labels(choice.out / "unseen_01_labels.tif", prediction.labels, image.pixel_size_um, overwrite=True)

    scores = evaluate(prediction.labels, read_labels(NUCLEI / "test_labels" / "unseen_01.tif"))
    print(f"IoU {scores.iou:.3f}, Dice {scores.dice:.3f}")


if __name__ == "__main__":
    main()
