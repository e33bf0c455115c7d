"""The flow of a run: which frames, in which batches, on which workers, into which tables."""
