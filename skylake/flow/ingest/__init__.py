"""Frames become rows of ``frames``, ``sources`` and ``forced_sources``."""
