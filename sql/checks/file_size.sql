-- Every file has the size that its description gives.
-- fast
-- says: the file {path} of {table_name} has {n_bytes} bytes where {n_bytes_recorded} are recorded
-- repair: {file_repair}
SELECT l.table_name, l.path, d.n_bytes, l.n_bytes AS n_bytes_recorded
FROM lake_files AS l
INNER JOIN disk_files AS d USING (table_name, path)
WHERE d.n_bytes <> l.n_bytes;
