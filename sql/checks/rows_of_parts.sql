-- Every row belongs to a part that its file is told to hold.
-- deep
-- says: {n_foreign} rows of {path} of {table_name} belong to no part of the file
-- mend: {file_mend}
SELECT table_name, path, n_foreign
FROM file_scans
WHERE n_foreign > 0;
