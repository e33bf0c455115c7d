-- Every snapshot has a link for each table, which leads to a version of that table.
-- fast
-- says: the link {table_name} of snapshot {snapshot} {problem}
-- repair: {snapshot_repair}
SELECT snapshot, table_name, is_verified, problem
FROM snapshot_tables
WHERE problem IS NOT NULL;
