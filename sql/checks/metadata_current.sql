-- Where a table has `_metadata`, it lists the files that are there and their rows.
-- fast
-- says: _metadata of {table_name} is stale: {path} has {n_rows} rows, and {n_rows_recorded} there
-- repair: rm {lake}/{folder}/dataset/_metadata
SELECT t.table_name, t.folder, path, d.n_rows, m.n_rows AS n_rows_recorded
FROM metadata_files AS m
FULL JOIN (
    SELECT table_name, path, d.n_rows
    FROM disk_files AS d
    SEMI JOIN (FROM lake_tables WHERE has_metadata) USING (table_name)
) AS d USING (table_name, path)
INNER JOIN lake_tables AS t USING (table_name)
WHERE m.n_rows IS DISTINCT FROM d.n_rows;
