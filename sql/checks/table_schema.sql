-- The metadata of a table tell one schema, and its files have no other.
-- fast
-- says: {table_name} has the schema {schema_sha256}; its properties tell {schema_told}, _common_metadata {schema_common}
-- mend: {version_mend}
SELECT table_name, schema_sha256, schema_told, schema_common
FROM lake_tables
WHERE coalesce(schema_told, schema_sha256) <> schema_sha256
   OR coalesce(schema_common, schema_sha256) <> schema_sha256;
