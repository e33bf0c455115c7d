-- Every file names a schema of its table that was deployed, and has the columns of it.
-- fast
-- says: the file {path} of {table_name} has another schema: {problem}
-- repair: {file_repair}
SELECT l.table_name, l.path, d.drift AS problem
FROM lake_files AS l
INNER JOIN disk_files AS d USING (table_name, path)
WHERE d.drift IS NOT NULL;
