-- Every file below `dataset` is named by a description.
-- fast
-- says: the file {path} of {table_name} belongs to no part, with {n_rows} rows
-- mend: {file_mend}
SELECT d.table_name, d.path, d.n_rows
FROM disk_files AS d
LEFT JOIN lake_files AS l USING (table_name, path)
WHERE l.path IS NULL;
