-- Every part is described once, and has a key of its own where it shares files.
-- fast
-- says: the part {part} of {table_name} {problem}
-- repair: {part_repair}
SELECT table_name, part, any_value(bundle) AS bundle, 'is described ' || count(*) || ' times' AS problem
FROM lake_parts
GROUP BY table_name, part
HAVING count(*) > 1
UNION ALL
SELECT table_name, min(part), bundle, 'has the key of ' || count(*) - 1 || ' others: ' || batch_key
FROM lake_parts
WHERE bundle IS NOT NULL AND n_rows > 0
GROUP BY table_name, bundle, batch_key
HAVING count(*) > 1 OR batch_key = '{}';
