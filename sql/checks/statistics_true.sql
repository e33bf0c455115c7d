-- The statistics of every row group hold for its rows, so that no reader leaves rows out.
-- deep
-- says: row group {row_group} of {path} of {table_name} states {stated} for {column_name}, and has {found}
-- repair: {file_repair}
SELECT table_name, path, row_group, column_name, stated, found
FROM statistics_scans;
