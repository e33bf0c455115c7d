"""Lenses and world coordinate systems, and their fit to catalog stars."""
