"""Verify a lake, and forget frames."""
