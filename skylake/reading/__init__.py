"""The reading interface for Python: a lake as ``skylake.open`` returns it."""
