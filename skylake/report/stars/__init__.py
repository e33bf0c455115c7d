"""Single stars: find them, read and prepare their light curves, draw and export them."""
