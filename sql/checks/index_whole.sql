-- The index of every reference catalog for solving has the content that it was written with.
-- deep
-- says: {file}, the index of the catalog {catalog}, is damaged: {problem}
-- repair: skylake catalog index {lake} {catalog}
SELECT catalog, file, problem
FROM index_scans
WHERE problem IS NOT NULL;
