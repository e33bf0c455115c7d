-- Every file of a reference catalog has, byte for byte, the content that it was imported with.
-- deep
-- says: {file} of the catalog {catalog} {problem}
-- repair: skylake catalog import {lake} {catalog} --replace …
SELECT f.catalog, f.file,
    coalesce('cannot be read: ' || s.problem, 'has other bytes than were imported') AS problem
FROM catalog_files AS f
INNER JOIN catalog_scans AS s USING (file)
WHERE s.problem IS NOT NULL OR s.sha256 <> f.sha256;
