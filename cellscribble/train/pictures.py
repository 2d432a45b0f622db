"""How training went: a picture of the curves."""

from __future__ import annotations

from pathlib import Path

from cellscribble.io.atomic import atomic_path
from cellscribble.train.history import History


def save_curves(path: Path, history: History, warmup_epochs: int) -> None:
    """Loss terms, hold-out score and edge level over the epochs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (loss, score) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for column in history.columns():
        if column.startswith("loss_") and history.series(column)[0]:
            loss.plot(*history.series(column), label=column.removeprefix("loss_"))
    loss.set(xlabel="epoch", ylabel="weighted term", yscale="log", title="loss")
    epochs, values = history.series("holdout_score")
    if values:
        score.plot(epochs, values, color="C2", label="held-out strokes")
        low, high = history.series("holdout_low")[1], history.series("holdout_high")[1]
        if low:
            score.fill_between(epochs, low, high, color="C2", alpha=0.2, linewidth=0)
    epochs, values = history.series("edge_level")
    if values:
        score.plot(epochs, values, "--", color="C1", label="edge level")
    score.set(xlabel="epoch", ylim=(0, 1.02), title="held-out strokes (95 % interval), edge level")
    for axes in (loss, score):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
        if 0 < warmup_epochs < len(history.rows):
            axes.axvline(warmup_epochs - 0.5, color="0.7", linewidth=1)
    with atomic_path(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
