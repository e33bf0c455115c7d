-- The checksums of the files of every reference catalog are known.
-- deep
-- says: the catalog {catalog} was imported before checksums of files were kept, so damage in it may not be seen
-- repair: skylake catalog import {lake} {catalog} --replace …
SELECT DISTINCT catalog
FROM lake_catalogs
WHERE NOT is_listed;
