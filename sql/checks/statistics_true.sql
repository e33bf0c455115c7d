-- The statistics of every row group hold for its rows, so that no reader leaves rows out.
-- deep
-- says: row group {row_group} of {path} of {table_name} tells {told} of {column_name}, and has {found}
-- mend: {file_mend}
SELECT table_name, path, row_group, column_name, told, found
FROM statistics_scans;
