"""cellscribble export"""

from __future__ import annotations

from pathlib import Path

import click

from cellscribble.cli.output import emit, say


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Model file. [default: RUN/model.onnx]")
@click.option("--name", help="What the model is called. [default: as the run]")
@click.option("--licence", "license", metavar="TEXT", help="Under which others may use it, such as CC-BY-4.0.")
@click.option("--citation", metavar="TEXT", help="What its users are to cite. [default: the method's paper]")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON line on stdout.")
def command(run: Path, out: Path | None, overwrite: bool, as_json: bool, **about: str | None) -> None:
    """Write model.onnx from the best state in the folder RUN, and compare it with the trained network."""
    from cellscribble.export.onnx import export

    said = {key: value for key, value in about.items() if value is not None}
    model, comparisons = export(run, out or run / "model.onnx", about=said, overwrite=overwrite)
    for c in comparisons:
        say(f"{c.size_px:5d} px: torch and ONNX Runtime differ by {c.largest_difference:.1e}")
    say(f"model: {model.path}")
    if as_json:
        emit("done", model=model.path, differences={str(c.size_px): c.largest_difference for c in comparisons})
