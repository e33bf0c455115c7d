"""Files of a lake: parts, bundles, rows of them, and tables opened for reading."""
