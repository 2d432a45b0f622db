"""The models that come with the program do what their cards say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellscribble.bundle import open_model
from cellscribble.demo import find_example
from cellscribble.infer.find_model import find_model, open_for, shipped_models
from cellscribble.infer.predict import predict
from cellscribble.io.images import list_images, open_image
from cellscribble.metrics.scores import evaluate


def test_every_shipped_model_has_a_card_with_its_own_figures():
    models = shipped_models()
    assert {"nuclei_fluorescence", "nuclei_histology", "nuclei_brightfield"} <= set(models)
    for name, path in models.items():
        card = (Path(path).parent / "README.md").read_text(encoding="utf-8")
        metadata = open_model(path).metadata
        assert card.startswith(f"# {name}\n")
        assert metadata.holdout is not None
        assert f"{metadata.holdout['score']:.3f} of the pixels right" in card
        assert metadata.command in card
        assert metadata.license
        assert metadata.license in card
        assert (Path(path).parent / "card.png").exists()
        assert open_for("cpu", path).metadata == replace(metadata, precision="int8", made_of=open_model(path).sha256)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images", "least"), [("nuclei_fluorescence", "nuclei", 0.85), ("nuclei_histology", "histology", 0.6)]
)
def test_a_shipped_model_finds_the_nuclei_of_the_example(name, images, least):
    example = find_example(images)
    ious = []
    for model in (open_model(find_model(name)), open_for("cpu", find_model(name))):
        scores = []
        for path in list_images(example.test_images):
            labels = np.asarray(predict(open_image(path), model).labels)
            truth = np.asarray(open_image(example.test_labels / f"{path.stem}.tif").data[0])
            scores.append(evaluate(labels, truth))
        ious.append(np.mean([s.iou for s in scores]))
        assert ious[-1] > least
        assert np.mean([s.mean_dice_per_truth for s in scores]) > least
    assert abs(ious[1] - ious[0]) < 0.005
