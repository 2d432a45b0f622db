"""cellscribble adapt"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from cellscribble.cli.output import emit, holdout_words, say, warn
from cellscribble.cli.shared_options import axes_options
from cellscribble.cli.train import spin_briefly


@click.command()
@click.argument("model")
@click.argument("volume", type=click.Path(exists=True, path_type=Path))
@click.argument("strokes", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Model file. [default: VOLUME's name + _model.onnx]"
)
@click.option("--no-graph-cut", is_flag=True, help="Each pixel decides by itself what is cell.")
@axes_options("the volume's file")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of everything random. [default: 0]")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON line on stdout.")
def command(
    model: str,
    volume: Path,
    strokes: Path,
    out: Path | None,
    no_graph_cut: bool,
    axes: str | None,
    timepoint: int | None,
    level: int | None,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> list[Path]:
    """Fit MODEL to a volume or image by STROKES on a few of its slices; then predict with what comes of it.

    MODEL is a model file, a run folder or the name of a shipped model. Only its last layer is trained, in seconds. A
    2D model may be fitted to the stroked slices of a volume. In predict a 3D graph cut then decides what is cell.
    """
    spin_briefly()
    from cellscribble.adapt.run import adapt
    from cellscribble.bundle import open_model
    from cellscribble.infer.find_model import find_model
    from cellscribble.io.images import image_name, open_image

    image = open_image(volume, axes=axes, timepoint=timepoint, level=level or 0)
    path = out or volume.with_name(f"{image_name(volume)}_model.onnx")
    found = open_model(find_model(model))
    adapted = adapt(
        found, image, strokes, path, graph_cut=not no_graph_cut, timepoint=timepoint, seed=seed, overwrite=overwrite
    )
    classes = adapted.model.metadata.classes
    for note in adapted.notes:
        warn(note)
    counts = ", ".join(f"{name} {n}" for name, n in zip(classes, adapted.n_pixels, strict=True))
    say(f"stroked pixels: {counts}")
    if adapted.before and adapted.after:
        say(f"held-out strokes before: {holdout_words(asdict(adapted.before))}")
        say(f"adapted without them: {holdout_words(asdict(adapted.after))}; the model has learnt from all")
        if adapted.after.score <= adapted.before.score:
            warn(f"adapting made the held-out strokes no better: look at both on the image; {model} may be better")
    else:
        say(f"no hold-out score: {adapted.holdout.reason}")
    say(f"model: {path}")
    planes = " --planes" if image.ndim > adapted.model.metadata.ndim else ""
    # Elsewhere predict finds the level by its pixel size.
    at_level = f" --level {level}" if level and image.pixel_size_um is None else ""
    say(f"next: cellscribble predict {volume} -m {path}{planes}{at_level}")
    if as_json:
        scores = {
            name: score and asdict(score) for name, score in (("before", adapted.before), ("after", adapted.after))
        }
        emit("done", model=path, **scores, stroked_pixels=adapted.n_pixels)
    return [path]
