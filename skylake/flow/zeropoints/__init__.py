"""Calibrate nights: cross-match with a reference catalog and fit zeropoints."""
