"""Read FITS files: headers, raw pixels, compressed images."""
