"""`cellscribble info`: what a model says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from cellscribble.bundle import INT8, Model, open_model
from cellscribble.cli.output import emit, holdout_words, shorten
from cellscribble.infer.find_model import find_model, int8_of
from cellscribble.infer.fit import format_um
from cellscribble.segment.doubt import usual_words

EPILOG = """\b
Examples:
  cellscribble info runs/nuclei
  cellscribble info model.onnx --json
"""


@click.command(epilog=EPILOG)
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def command(model: str | None, as_json: bool) -> None:
    """Show what MODEL says about itself.

    MODEL is a model file, a run folder or the name of a shipped model; without it the newest run
    below this folder is shown.
    """
    opened = open_model(find_model(model))
    if as_json:
        metadata = json.loads(opened.metadata.to_json())
        emit("info", path=opened.path, sha256=opened.sha256, metadata=metadata)
        return
    rows = _rows(opened)
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        click.echo(f"{key:<{width}}  {value}")


def _rows(model: Model) -> list[tuple[str, str]]:
    meta = model.metadata
    colors = ["#" + "".join(f"{value:02x}" for value in color) for color in meta.colors]
    rule = meta.intensity
    intensity = rule.kind
    if rule.kind == "percentile":
        intensity += f" {rule.low_percent:g} to {rule.high_percent:g}"
    return [
        ("model", meta.name),
        ("file", str(model.path)),
        ("sha256", model.sha256),
        ("schema", str(meta.schema)),
        ("classes", ", ".join(f"{c} {color}" for c, color in zip(meta.classes, colors, strict=True))),
        ("image", f"{meta.ndim}D {meta.axes}, channels {', '.join(meta.channels)}{' (RGB)' if meta.is_rgb else ''}"),
        ("pixel size", format_um(meta.pixel_size_um)),
        ("intensity", intensity),
        ("precision", meta.precision),
        ("in 8 bits", _in_8_bits(model)),
        ("stride, halo", f"{_px(meta.stride_multiple)}, {_px(meta.halo_px)} px"),
        ("segmenter", f"{meta.segmenter} {_pairs(meta.segmenter_parameters)}".strip()),
        ("graph cut", _pairs(meta.graph_cut) if meta.graph_cut else "none"),
        ("edge level", "not calibrated" if meta.edge_threshold is None else f"{meta.edge_threshold:g} (built in)"),
        ("usual doubt", usual_words(meta.usual_doubt) or "not known"),
        ("hold-out", holdout_words(meta.holdout) if meta.holdout else "none: too few strokes"),
        ("method", meta.method or "unknown"),
        ("config", json.dumps(meta.config, ensure_ascii=False)),
        ("seed", str(meta.seed)),
        ("versions", _pairs(meta.versions)),
        ("trained on", _data(meta.data_hashes)),
        ("created", meta.created or "unknown"),
        ("command", meta.command or "unknown"),
        ("licence", meta.license or "not given"),
        ("citation", meta.citation or "not given"),
    ]


def _in_8_bits(model: Model) -> str:
    if model.metadata.precision == INT8:
        return f"of the float model {model.metadata.made_of[:12] or 'unknown'}"
    int8 = int8_of(model)
    return "no model" if int8 is None else f"{int8.path.name}, for processors"


def _data(hashes: Mapping[str, str]) -> str:
    """The first few images and strokes with the beginning of their sha256, and how many more there are."""
    shown = [f"{shorten(name)} {digest[:12]}" for name, digest in list(hashes.items())[:4]]
    more = len(hashes) - len(shown)
    return ", ".join([*shown, *([f"{more} more (--json lists all)"] if more > 0 else [])]) or "unknown"


def _px(values: tuple[int, ...]) -> str:
    return " x ".join(str(value) for value in values)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )
