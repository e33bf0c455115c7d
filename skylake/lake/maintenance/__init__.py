"""Compaction and vacuum: which files are merged, cut or dropped."""
