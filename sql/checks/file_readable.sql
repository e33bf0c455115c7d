-- Every file is Parquet with a whole footer.
-- fast
-- says: the file {path} of {table_name} cannot be read: {problem}
-- repair: {file_repair}
SELECT d.table_name, d.path, d.problem
FROM disk_files AS d
INNER JOIN lake_files AS l USING (table_name, path)
WHERE d.problem IS NOT NULL;
