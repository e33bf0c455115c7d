"""Find damage in a lake, and name its repair."""
