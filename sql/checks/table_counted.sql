-- The properties of a table tell the rows of its files.
-- fast
-- says: hats.properties of {table_name} tells {n_rows_told} rows where its files are told to have {n_rows}
-- mend: sed -i 's/^hats_nrows=.*/hats_nrows={n_rows}/' {lake}/{folder}/hats.properties
SELECT t.table_name, t.folder, t.n_rows_told, coalesce(sum(f.n_rows), 0)::BIGINT AS n_rows
FROM lake_tables AS t
LEFT JOIN lake_files AS f USING (table_name)
WHERE t.n_rows_told IS NOT NULL
  -- What a description that cannot be read would tell is not known.
  AND t.table_name NOT IN (SELECT table_name FROM documents WHERE kind LIKE 'description%')
GROUP BY ALL
HAVING t.n_rows_told <> coalesce(sum(f.n_rows), 0);
