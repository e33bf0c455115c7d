-- The properties of a table give the number of rows of its files.
-- fast
-- says: hats.properties of {table_name} counts {n_rows_recorded} rows where its files are recorded with {n_rows}
-- repair: sed -i 's/^hats_nrows=.*/hats_nrows={n_rows}/' {lake}/{folder}/hats.properties
SELECT
    t.table_name,
    t.folder,
    t.n_rows_recorded,
    coalesce((SELECT sum(n_rows) FROM lake_files WHERE table_name = t.table_name), 0)::BIGINT AS n_rows,
    coalesce((SELECT sum(n_rows) FROM disk_files WHERE table_name = t.table_name), 0)::BIGINT AS n_rows_there
FROM lake_tables AS t
WHERE t.n_rows_recorded <> n_rows
  -- The rows of a description that is lost or cannot be read are unknown; other checks find it.
  AND t.n_rows_recorded <> n_rows_there
  AND t.table_name NOT IN (
      SELECT table_name FROM documents WHERE table_name IS NOT NULL AND kind LIKE 'description%'
  );
