-- The properties of a table tell the rows of its parts.
-- fast
-- says: hats.properties of {table_name} tells {n_rows_told} rows where its parts have {n_rows}
-- mend: sed -i 's/^hats_nrows=.*/hats_nrows={n_rows}/' {lake}/{folder}/hats.properties
SELECT t.table_name, t.folder, t.n_rows_told, coalesce(sum(p.n_rows), 0)::BIGINT AS n_rows
FROM lake_tables AS t
LEFT JOIN lake_parts AS p USING (table_name)
WHERE t.n_rows_told IS NOT NULL
GROUP BY ALL
HAVING t.n_rows_told <> coalesce(sum(p.n_rows), 0);
