"""Find where a frame points."""
