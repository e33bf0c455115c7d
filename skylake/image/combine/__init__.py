"""Combine frames into master calibration frames, and measure detectors from them."""
