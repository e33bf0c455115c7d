-- Every file below `dataset` is named by a description.
-- fast
-- says: the file {path} of {table_name} belongs to no part, with {n_rows} rows
-- repair: {file_repair}
SELECT d.table_name, d.path, d.n_rows
FROM disk_files AS d
LEFT JOIN lake_files AS l USING (table_name, path)
WHERE l.path IS NULL
  -- Whose description cannot be read is found by document_readable.
  AND parse_filename(d.path, true) NOT IN (
      SELECT parse_filename(path, true) FROM documents WHERE table_name = d.table_name AND kind LIKE 'description%'
  );
