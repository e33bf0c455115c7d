"""Forced photometry of targets: the target list, and point spread functions of whole nights."""
