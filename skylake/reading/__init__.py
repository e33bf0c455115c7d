"""The front door for Python: a lake opened for reading, as ``skylake.open`` returns it."""
