-- Every file that a description names is there.
-- fast
-- says: the file {path} of {table_name} is missing, with {n_rows} rows of {owner}
-- repair: {file_repair}
SELECT l.table_name, l.path, l.owner, l.n_rows
FROM lake_files AS l
LEFT JOIN disk_files AS d USING (table_name, path)
WHERE d.path IS NULL;
