"""CellScribble: draw a few strokes on cells, train, and segment images of any size."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'"(.+)"', (HERE / "cellscribble" / "_version.py").read_text())[1]

INSTALL = [
    # The tested range. Where a CPU build of it is at hand pip takes that one.
    "torch>=2.6,<2.14",
    "onnx>=1.17,<2",
    # The GPU wheel runs on the CPU too; one wheel only, since both own the folder onnxruntime/.
    "onnxruntime-gpu>=1.20,<2; platform_machine=='x86_64' and sys_platform=='linux'",
    "onnxruntime-gpu>=1.20,<2; platform_machine=='AMD64' and sys_platform=='win32'",
    "onnxruntime>=1.20,<2; (platform_machine!='x86_64' or sys_platform!='linux')"
    " and (platform_machine!='AMD64' or sys_platform!='win32')",
    "numpy>=2.1,<3",
    "scipy>=1.14,<2",
    "scikit-image>=0.25,<0.27",
    "tifffile>=2025.5.10",
    "imagecodecs>=2025.3.30",
    "zarr>=3.1,<4",
    "numcodecs>=0.16",
    "dask[array]>=2025.1",
    "click>=8.1,<9",
    "rich>=13.7",
    "pillow>=10.1",
    "matplotlib>=3.9",
    "roifile>=2025.1",
    "yaozarrs>=0.3.4,<0.4",
    # CellProfiler's measurements, 12 MB: wherever there are wheels of it and of what it needs.
    "cp-measure>=0.3,<0.4; python_version<'3.14' and (platform_machine=='x86_64' or platform_machine=='AMD64'"
    " or (platform_machine=='arm64' and sys_platform=='darwin'))",
]
# Images behind a URL; botocore, which s3fs brings along, takes 30 MB.
HTTP = ["fsspec>=2024.12", "aiohttp>=3.9"]
REMOTE = [*HTTP, "s3fs>=2024.12"]
# The random forest that `compare` sets beside the networks.
COMPARE = ["scikit-learn>=1.5"]
# Tables as Parquet; 55 MB.
PARQUET = ["pyarrow>=18"]
# FijiSession and the Appose worker: small, and without Java itself.
FIJI = ["jpype1>=1.5", "appose>=0.12"]
TEST = [
    *HTTP,
    *COMPARE,
    *PARQUET,
    *FIJI,
    "pytest>=8.3",
    "hypothesis>=6.100",
    "ruff>=0.9",
    "mypy>=1.15",
    "import-linter>=2.1",
    "distributed>=2025.1",
    "setuptools>=65",
    "packaging>=23",
]

# Folders beside the package that are installed inside it, so that `cellscribble demo`,
# `predict -m NAME` and `fiji-install` find them wherever CellScribble is installed.
SHIPPED = {
    "cellscribble.examples": ["README.md", "*.csv", "*/*/*.tif", "*/*/*.png", "*/README.md", "*/*.cppipe", "*/*.zip"],
    "cellscribble.models": ["README.md", "*/model.onnx", "*/model_int8.onnx", "*/README.md", "*/card.png"],
    "cellscribble.plugins": ["README.md", "fiji/*", "*/*.py"],
}

setup(
    name="cellscribble",
    version=VERSION,
    description=__doc__.splitlines()[0],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["cellscribble", "cellscribble.*"]), *SHIPPED],
    package_dir={f"cellscribble.{folder}": folder for folder in ("examples", "models", "plugins")},
    package_data={"cellscribble": ["py.typed"], **SHIPPED},
    install_requires=INSTALL,
    extras_require={
        "fiji": FIJI,
        "cluster": ["distributed>=2025.1"],
        "compare": COMPARE,
        "parquet": PARQUET,
        "remote": REMOTE,
        "test": TEST,
    },
    entry_points={"console_scripts": ["cellscribble=cellscribble.cli.main:main"]},
)
