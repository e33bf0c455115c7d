-- The ledger has a record of every commit up to the current snapshot, under its own number and after its base.
-- fast
-- says: the record {snapshot} of the ledger {problem}
-- repair: {record_repair}
WITH numbers AS (SELECT unnest(generate_series(1, (SELECT max(snapshot) FROM snapshots))) AS snapshot)
SELECT
    n.snapshot,
    CASE
        WHEN l.snapshot IS NULL THEN 'is missing'
        WHEN l.record <> l.snapshot THEN 'is that of ' || l.record
        ELSE 'names the base ' || coalesce(l.base::VARCHAR, 'nothing')
    END AS problem
FROM numbers AS n
LEFT JOIN ledger AS l USING (snapshot)
WHERE l.snapshot IS NULL
   OR l.record <> l.snapshot
   OR (n.snapshot > 1 AND (l.base IS NULL OR l.base >= n.snapshot));
