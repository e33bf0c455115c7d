"""Files of a lake: parts, bundles, and rows of them."""
