"""Draw a few strokes on cells, train, and segment images of any size."""

from cellscribble._version import __version__

__all__ = ["__version__"]
