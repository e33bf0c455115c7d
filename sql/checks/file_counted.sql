-- Every file has as many rows as its description says.
-- fast
-- says: the file {path} of {table_name} has {n_rows} rows where {n_rows_recorded} are recorded
-- repair: {file_repair}
SELECT l.table_name, l.path, d.n_rows, l.n_rows AS n_rows_recorded
FROM lake_files AS l
INNER JOIN disk_files AS d USING (table_name, path)
WHERE d.n_rows <> l.n_rows;
