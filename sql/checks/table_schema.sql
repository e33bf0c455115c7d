-- A table names a schema that was deployed, its properties the same, and its files none that is newer.
-- fast
-- says: {table_name} {problem}
-- repair: {version_repair}
WITH newest AS (
    SELECT d.table_name, max(s.version) AS version
    FROM disk_files AS d
    INNER JOIN schemas AS s USING (table_name, schema_sha256)
    GROUP BY ALL
)
SELECT
    t.table_name,
    CASE
        WHEN s.version IS NULL THEN 'has a _common_metadata whose schema was never deployed: ' || t.schema_common
        WHEN t.schema_recorded <> t.schema_common THEN 'has properties with another schema than its _common_metadata'
        ELSE 'has files of version ' || n.version || ' of its schema, and a _common_metadata of version ' || s.version
    END AS problem
FROM lake_tables AS t
LEFT JOIN schemas AS s ON s.table_name = t.table_name AND s.schema_sha256 = t.schema_common
LEFT JOIN newest AS n ON n.table_name = t.table_name
WHERE t.schema_common IS NOT NULL
  AND (s.version IS NULL OR t.schema_recorded <> t.schema_common OR n.version > s.version);
