"""Merge the files of many nights, and take parts out of merged files."""
