"""The commands of docs/cellprofiler.md, typed one after the other as they stand there."""

import os
import re
import subprocess

import numpy as np
import pytest
import tifffile

from tests.plugins.drive import PROGRAM, ROOT, needs_cellprofiler, program, rows

EXAMPLE = (ROOT / "examples" / "cellprofiler" / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "cellprofiler.md").read_text(encoding="utf-8")


@pytest.mark.cellprofiler
@pytest.mark.slow
@needs_cellprofiler
@pytest.mark.usefixtures("temporary_folder")
def test_the_commands_of_the_page_run_as_they_stand(tmp_path):
    here, programs = tmp_path / "here", tmp_path / "programs"
    here.mkdir()
    programs.mkdir()
    program(programs)
    (programs / "cellprofiler").symlink_to(PROGRAM)
    for name in ("examples", "plugins"):
        (here / name).symlink_to(ROOT / name)
    (here / "imgs").symlink_to(ROOT / "examples" / "nuclei" / "test_images")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{programs}:{environment['PATH']}"

    blocks = re.findall("^```\\n(cell.*?)\\n```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert f"\n{blocks[0]}\n" in EXAMPLE
    lines = [line for block in blocks for line in block.splitlines() if "slide.zarr" not in line]
    names = [line.split()[0] for line in lines]
    assert names == ["cellprofiler", "cellscribble", "cellprofiler", "cellscribble", "cellscribble"]
    counts = []
    for line in lines:
        done = subprocess.run(
            line,
            shell=True,
            cwd=here,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if line.startswith("cellprofiler"):
            folder = here / line.split(" -o ")[1].split()[0]
            (count,) = (
                name for name in rows(folder / "MyExpt_Image.csv")[0] if re.fullmatch("Count_(Nuclei|Cells)", name)
            )
            counts.append([int(float(row[count])) for row in rows(folder / "MyExpt_Image.csv")])
    labels = {path.name: tifffile.imread(path) for path in sorted((here / "results").glob("*_labels.tif"))}
    n_objects = {name.removesuffix("_labels.tif"): int(np.max(array)) for name, array in labels.items()}
    # The images beside the pipeline are two of them.
    beside = [n_objects[path.stem] for path in sorted((ROOT / "examples" / "cellprofiler" / "images").iterdir())]
    assert counts == [beside, list(n_objects.values())]
    measured = rows(here / "cellscribble_measurements" / "MyExpt_Image.csv")
    assert [int(row["Count_Cells"]) for row in measured] == counts[1]
    (table,) = (rows(path) for path in (here / "textures").glob("MyExpt_*.csv") if path.name != "MyExpt_Image.csv")
    assert len(table) == sum(counts[1])
    assert any(name.startswith("Texture_Contrast_") for name in table[0])
    assert any(name.startswith("RadialDistribution_FracAtD_") for name in table[0])
