"""Find sources above the background."""
