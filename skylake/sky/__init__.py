"""The sky: HEALPix pixels, reference catalogs, and the cross-match."""
