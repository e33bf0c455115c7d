"""The geometry of cameras that see the whole sky."""
