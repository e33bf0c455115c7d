-- Every reference catalog and its margin can be read, and have the rows that their properties give.
-- fast
-- says: the catalog {catalog} ({folder}) is damaged: {problem}
-- repair: skylake catalog import {lake} {catalog} --replace …
SELECT
    catalog, folder, coalesce(problem, n_rows || ' rows where ' || n_rows_recorded || ' are recorded') AS problem
FROM lake_catalogs
WHERE problem IS NOT NULL OR n_rows <> n_rows_recorded;
