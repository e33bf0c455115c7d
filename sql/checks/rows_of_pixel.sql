-- Every row lies in the pixel of its file.
-- deep
-- says: {n_outside} rows of {path} of {table_name} lie in other pixels
-- repair: {file_repair}
SELECT table_name, path, n_outside
FROM file_scans
WHERE n_outside > 0;
