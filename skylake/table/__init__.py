"""Derived tables: one file of code per table, a partition in, a partition out."""
