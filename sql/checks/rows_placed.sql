-- The index _healpix_29 of every row is that of its position.
-- deep
-- says: {n_misplaced} rows of {path} of {table_name} have the index of another position
-- repair: {file_repair}
SELECT table_name, path, n_misplaced
FROM file_scans
WHERE n_misplaced > 0;
