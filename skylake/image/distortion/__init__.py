"""The distortion of a camera over time."""
