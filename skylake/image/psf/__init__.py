"""The point spread function, and forced photometry with it."""
