-- The rows of every part are those that it was written with: their number and digest in each file.
-- deep
-- says: {part} of {table_name} has {n_rows} rows in {path} where {n_rows_recorded} are recorded, or other values in them
-- repair: {file_repair}
SELECT p.table_name, p.part, p.path, s.n_rows, p.n_rows AS n_rows_recorded
FROM part_files AS p
INNER JOIN part_scans AS s USING (table_name, part, path)
WHERE s.n_rows <> p.n_rows OR s.digest <> p.digest;
