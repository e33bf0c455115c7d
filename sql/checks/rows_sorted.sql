-- The rows of every file are sorted as the schema says.
-- deep
-- says: {n_unsorted} rows of {path} of {table_name} come too late
-- repair: {file_repair}
SELECT table_name, path, n_unsorted
FROM file_scans
WHERE n_unsorted > 0;
