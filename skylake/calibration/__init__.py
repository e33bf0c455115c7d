"""Photometric calibration: zeropoints of frames, magnitudes of stars, and both put to use; arrays in, arrays out."""
