"""Tables of a lake opened for reading: DuckDB, Arrow, pandas, dask and lsdb."""
