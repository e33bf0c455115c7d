-- Every row of every file can be read.
-- deep
-- says: the rows of {path} of {table_name} cannot be read: {problem}
-- repair: {file_repair}
SELECT s.table_name, s.path, s.problem
FROM file_scans AS s
WHERE s.problem IS NOT NULL;
