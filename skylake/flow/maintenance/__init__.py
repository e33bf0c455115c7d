"""Compact, verify, forget, and import reference catalogs."""
