-- Tables hold no NaN.
-- deep
-- says: the column {column_name} of {path} of {table_name} holds {n_nan} NaN
-- mend: {file_mend}
SELECT table_name, path, column_name, n_nan
FROM nan_scans
WHERE n_nan > 0;
