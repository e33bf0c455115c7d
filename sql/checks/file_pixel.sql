-- The statistics of every file show that its rows lie in the pixel of its folder.
-- fast
-- says: the file {path} of {table_name} {problem}
-- repair: {file_repair}
SELECT
    l.table_name,
    l.path,
    CASE WHEN d.has_statistics THEN 'has rows of other pixels' ELSE 'has no statistics of _healpix_29' END AS problem
FROM lake_files AS l
INNER JOIN disk_files AS d USING (table_name, path)
WHERE l.norder IS NOT NULL
  AND d.problem IS NULL
  AND d.n_rows > 0
  AND (NOT d.has_statistics OR d.index_min < l.index_from OR d.index_max >= l.index_to);
