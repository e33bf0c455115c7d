"""Import reference catalogs."""
