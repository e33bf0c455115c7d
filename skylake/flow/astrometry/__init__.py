"""Solve frames, and learn the distortion and geometry of cameras from many frames."""
