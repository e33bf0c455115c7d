-- Tables hold no NaN.
-- deep
-- says: the column {column_name} of {path} of {table_name} holds {n_nan} NaN
-- repair: {file_repair}
SELECT table_name, path, column_name, n_nan
FROM nan_scans
WHERE n_nan > 0;
