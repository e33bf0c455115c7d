"""What a lake keeps of each camera beside its tables."""
