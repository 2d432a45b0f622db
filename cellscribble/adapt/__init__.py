"""A trained model fitted to one image by a few strokes on it."""
