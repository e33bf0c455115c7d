"""Trails of satellites and aircraft."""
