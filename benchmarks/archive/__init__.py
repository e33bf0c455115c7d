"""Years of nights as tables, without pixels: lakes for trials of scale and of faults."""
