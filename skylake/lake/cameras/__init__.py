"""Data of each camera that a lake keeps outside its tables."""
