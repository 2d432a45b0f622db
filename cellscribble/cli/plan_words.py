"""The plan of a run in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellscribble.cli.output import format_seconds
from cellscribble.engine.memory import format_bytes


def plan_lines(fields: Mapping[str, Any], *, dry_run: bool) -> list[str]:
    """One line on the blocks of a run, one on those of a run that goes on, and in a dry run all that is known of it.

    fields : as `engine.forecast`
    """
    memory = f"about {format_bytes(fields['memory_bytes'])} of memory"
    if fields["how"] == "memory":
        how = f"segmented in memory as a whole, {memory}"
    else:
        n, at_once, threads = fields["n_blocks"], fields["at_once"], fields["threads"]
        speed = f"{at_once} at once" + (f" with {threads} threads each" if threads > 1 else "")
        if fields["workers"]:
            speed += f" in each of {fields['workers']} workers"
        how = f"{n} block{'' if n == 1 else 's'} of {_px(fields['block_px'])} px, {speed}, {memory}"
    done = [f"{n} of them done already, by a run that was stopped"] if (n := fields.get("n_done")) else []
    if not dry_run:
        return [how, *done]
    n_empty = fields.get("n_look_empty")
    if n_empty is None:
        empty = "less where blocks are empty"
    else:
        empty = f"since {n_empty} of the blocks look empty on a low level of the pyramid and need no network"
    return [
        f"{how}, at most {format_bytes(fields['most_memory_bytes'])}",
        *done,
        f"the network looks {_px(fields['halo_px'])} px around a block",
        f"at most {format_bytes(fields['disk_bytes'])} on the disk, unpacked; "
        f"{format_bytes(fields['free_disk_bytes'])} are free",
        f"about {format_seconds(fields['seconds'])}, {empty}",
        f"would write {', '.join(fields['writes'])}",
    ]


def _px(sizes: list[int]) -> str:
    return " x ".join(str(n) for n in sizes)
