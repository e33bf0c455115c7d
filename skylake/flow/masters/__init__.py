"""Build master calibration frames: ``skylake calib build``."""
