-- Every reference catalog has the files that it was imported with, in their sizes, and no others.
-- fast
-- says: {file} of the catalog {catalog} {problem}
-- repair: skylake catalog import {lake} {catalog} --replace …
SELECT f.catalog, f.file,
    CASE WHEN f.n_bytes IS NULL THEN 'is missing'
        WHEN f.n_bytes_recorded IS NULL THEN 'was not imported'
        ELSE 'has ' || f.n_bytes || ' bytes and was imported with ' || f.n_bytes_recorded END AS problem
FROM catalog_files AS f
WHERE f.n_bytes IS DISTINCT FROM f.n_bytes_recorded
    AND f.catalog IN (SELECT c.catalog FROM lake_catalogs AS c WHERE c.is_listed);
