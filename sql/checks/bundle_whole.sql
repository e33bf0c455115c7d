-- A bundle has a description of every member, and the rows of its members are those of its files.
-- fast
-- says: the bundle {bundle} of {table_name} has {n_members} of {n_named} members, with {n_rows} of {n_rows_recorded} rows
-- repair: {bundle_repair}
SELECT b.table_name, b.bundle, b.document, b.n_named, b.n_members, b.n_rows AS n_rows_recorded,
    coalesce(sum(p.n_rows), 0)::BIGINT AS n_rows
FROM lake_bundles AS b
LEFT JOIN lake_parts AS p USING (table_name, bundle)
GROUP BY b.table_name, b.bundle, b.document, b.n_named, b.n_members, b.n_rows, b.checksum
HAVING b.n_named <> b.n_members
    OR b.n_rows <> coalesce(sum(p.n_rows), 0)
    OR b.checksum <> coalesce(sum(p.checksum), 0) % 18446744073709551616;
