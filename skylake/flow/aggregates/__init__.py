"""Derived tables, refreshed where their inputs have changed."""
