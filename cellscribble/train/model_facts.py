"""Everything a trained model says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellscribble.bundle import ModelMetadata
from cellscribble.methods.registry import METHODS
from cellscribble.provenance import command, now, versions
from cellscribble.train.calibrate import Calibration
from cellscribble.train.inputs import TrainingSet
from cellscribble.train.loop import Fit


def describe_model(
    fit: Fit, training_set: TrainingSet, calibration: Calibration, score: dict[str, Any] | None
) -> ModelMetadata:
    """Everything the model file says about itself."""
    config, image = fit.config, training_set.pairs[0].image
    entry = METHODS[config.method]
    return ModelMetadata(
        name=fit.folder.name,
        classes=training_set.classes,
        colors=training_set.colors,
        axes=image.axes,
        channels=channel_names(image.n_channels, image.is_rgb, image.channel_names),
        is_rgb=image.is_rgb,
        pixel_size_um=training_set.pixel_size_um,
        intensity=training_set.rule,
        stride_multiple=fit.network.stride_multiple,
        halo_px=fit.predictor.halo_px,
        segmenter=fit.method.segmenter,
        segmenter_parameters=calibration.segmenter_parameters,
        edge_threshold=calibration.edge_level,
        usual_doubt=calibration.usual_doubt,
        method=config.method,
        config=config.to_json(),
        seed=config.seed,
        versions=versions("torch", "onnx"),
        data_hashes=training_set.hashes,
        holdout=score,
        license="",
        citation=f"{entry.paper} (method {config.method})",
        created=now(),
        command=command(),
    )


def channel_names(n: int, is_rgb: bool, given: Sequence[str]) -> tuple[str, ...]:
    if given and len(given) == n:
        return tuple(given)
    return ("red", "green", "blue") if is_rgb else tuple(f"channel {i + 1}" for i in range(n))
