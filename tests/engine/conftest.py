import pytest

from cellscribble.bundle import open_model
from tests.infer.analytic import metadata, write_model

OBJECTS = {"threshold": 0.5, "smallest_object_px": 3, "largest_radius_px": 6.0, "largest_hole_px": 4}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    classes = {"classes": ("background", "a", "b"), "colors": ((0, 0, 0), (255, 0, 0), (0, 255, 0))}
    kinds = {2: metadata(2), 3: metadata(3), "classes": metadata(2, **classes)}
    return {
        kind: open_model(
            write_model(
                folder / f"{kind}.onnx",
                metadata(meta.ndim, **({} if kind != "classes" else classes), segmenter_parameters=OBJECTS),
            )
        )
        for kind, meta in kinds.items()
    }
