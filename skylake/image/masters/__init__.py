"""Master calibration frames: their files, and which one fits a frame."""
