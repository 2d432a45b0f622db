"""The tables of README.md from the rows that accuracy.py wrote; nothing in them is filled in by hand.

    python benchmarks/write_table.py results.csv [more.csv ...]

Mean and standard deviation over seeds, decided at the edge level; the last column is the IoU at 0.5 of the
method's own probability. The papers' figures stand in papers.csv. --print shows the tables only.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sets import SETS
from table import read_rows

from cellscribble.compare.exam import UNSEEN
from cellscribble.compare.scoring import OFF, ON
from cellscribble.compare.table import Spread, over_seeds, spread

HERE = Path(__file__).parent
PAGE, PAPERS = HERE / "README.md", HERE / "papers.csv"
BEGIN, END = "<!-- tables: written by write_table.py -->", "<!-- end of tables -->"
GROUP = ("set", "strokes", "method", "network", "minutes", "epochs", "paced")
SCORES = {
    "holdout_score": "strokes right",
    "iou": "IoU",
    "mean_dice_per_truth": "mDice (S2L)",
    "mean_dice_of_components": "mDice (pieces)",
    "mean_best_dice": "mDice (ImPartial)",
    "ap_50": "AP .5",
    "panoptic_quality": "PQ",
    "auc": "AUC",
}
NOTHING = spread(())


def numbers(row: Mapping[str, str]) -> dict[str, Any]:
    """The scores as numbers; what names a run stays text."""
    out: dict[str, Any] = dict(row)
    for key in (*SCORES, "seconds"):
        out[key] = float(row[key]) if row.get(key) else None
    return out


def tables(rows: Iterable[Mapping[str, str]], papers: Iterable[Mapping[str, str]]) -> str:
    """All tables as Markdown: one for each set and number of strokes that has rows."""
    typed, papers = [numbers(row) for row in rows], list(papers)
    parts = []
    for name in SETS:
        for strokes in dict.fromkeys(row["strokes"] for row in typed if row["set"] == name):
            here = [row for row in typed if (row["set"], row["strokes"]) == (name, strokes)]
            theirs = [row for row in papers if (row["set"], row["strokes"]) == (name, strokes)]
            parts.append(one_table(f"{name}, strokes {strokes}", here, theirs))
    if not parts:
        return "No rows yet.\n"
    made = sorted({(row["machine"], row["date"]) for row in typed})
    return "\n".join([*parts, "Made on: " + "; ".join(f"{machine}, {date}" for machine, date in made) + ".", ""])


def one_table(title: str, rows: list[dict[str, Any]], papers: list[Mapping[str, str]]) -> str:
    """One set: a line for each method and budget, then the papers' lines."""
    on = over_seeds((row for row in rows if row["edge"] == ON), GROUP)
    off = over_seeds((row for row in rows if row["edge"] == OFF), GROUP)
    n = rows[0]["n_images"]
    where = f"{n} unseen images" if rows[0]["images"] == UNSEEN else f"the {n} images trained on"
    lines = [
        f"#### {title}; scored on {where}\n",
        line(["method", "budget", "seeds", *SCORES.values(), "IoU, edge off"]),
        line(["---"] * (len(SCORES) + 4)),
    ]
    for group, mean in on.items():
        _, _, method, network, minutes, epochs, paced = group
        budget = budget_text(network, minutes, epochs, paced, mean["seconds"])
        cells = [mean[key].text() for key in SCORES]
        lines.append(line([f"`{method}`", budget, str(mean["seconds"].n), *cells, off[group]["iou"].text()]))
    for row in papers:
        scores = {key: spread([float(row[key])]) for key in ("iou", "mean_dice_per_truth")}
        cells = [scores.get(key, NOTHING).text() for key in SCORES]
        lines.append(line([f"{row['paper']}, {row['method']} (*)", "its own", "", *cells, ""]))
    lines += [f"\n(*) {how}" for how in dict.fromkeys(row["how"] for row in papers)]
    return "\n".join([*lines, ""])


def budget_text(network: str, minutes: str, epochs: str, paced: str, seconds: Spread) -> str:
    if minutes:
        return f"{minutes} min{' (paced)' if paced else ''}" + (f", {network}" if network != "light" else "")
    if epochs:
        return f"{epochs} epochs, {network}, {seconds.mean / 60:.1f} min"
    return f"{seconds.mean:.0f} s"


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_page(page: Path, text: str) -> None:
    """Put the tables between the marks of a page."""
    head, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} lacks the marks {BEGIN} and {END}")
    page.write_text(f"{head}{begin}\n\n{text}\n{end}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, nargs="+")
    parser.add_argument("--print", action="store_true", dest="show")
    arguments = parser.parse_args()
    text = tables([row for path in arguments.csv for row in read_rows(path)], read_rows(PAPERS))
    if arguments.show:
        print(text)
    else:
        write_page(PAGE, text)


if __name__ == "__main__":
    main()
