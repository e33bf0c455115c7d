-- The rows of the parts in a file of a bundle are all rows of the file.
-- fast
-- says: the parts have {n_rows} rows in {path} of {table_name}, of which {n_rows_recorded} are recorded
-- repair: {bundle_repair}
SELECT l.table_name, l.owner AS bundle, l.path, l.n_rows AS n_rows_recorded, coalesce(sum(p.n_rows), 0)::BIGINT AS n_rows
FROM lake_files AS l
LEFT JOIN part_files AS p USING (table_name, path)
WHERE l.kind = 'bundle'
GROUP BY l.table_name, l.owner, l.path, l.n_rows, l.digest
HAVING l.n_rows <> coalesce(sum(p.n_rows), 0)
    OR l.digest <> coalesce(sum(p.digest), 0) % 18446744073709551616;
