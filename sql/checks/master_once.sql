-- Every master is one row of masters.
-- fast
-- says: the master {name} is {n_rows} rows
-- repair: {version_repair}
SELECT 'masters' AS table_name, name, count(*) AS n_rows
FROM masters
GROUP BY name
HAVING count(*) > 1;
