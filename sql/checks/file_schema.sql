-- Every file names a schema of its table that was deployed, and has the columns of it.
-- fast
-- says: the file {path} of {table_name} has another schema: {problem}
-- mend: {file_mend}
SELECT l.table_name, l.path, d.drift AS problem
FROM lake_files AS l
INNER JOIN disk_files AS d USING (table_name, path)
WHERE d.drift IS NOT NULL;
