-- Every file has the columns of its table, and the schema that its description tells.
-- fast
-- says: the file {path} of {table_name} has another schema: {problem}
-- mend: {file_mend}
SELECT
    l.table_name,
    l.path,
    coalesce(d.drift, 'its footer names ' || coalesce(d.schema_sha256, 'none') || ', its part ' || l.schema_sha256) AS problem
FROM lake_files AS l
INNER JOIN disk_files AS d USING (table_name, path)
WHERE d.problem IS NULL
  AND (d.drift IS NOT NULL OR d.schema_sha256 IS DISTINCT FROM coalesce(l.schema_sha256, d.schema_sha256));
