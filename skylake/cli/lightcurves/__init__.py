"""``skylake lc``: light curves of stars, as tables, pictures and texts for databases."""
