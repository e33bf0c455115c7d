-- Every row belongs to a part that its file is recorded to hold.
-- deep
-- says: {n_foreign} rows of {path} of {table_name} belong to no part of the file
-- repair: {file_repair}
SELECT table_name, path, n_foreign
FROM file_scans
WHERE n_foreign > 0;
