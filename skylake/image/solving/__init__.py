"""Find out where a frame points."""
