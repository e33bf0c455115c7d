-- The pixels that partition_info.csv lists are those that have files.
-- fast
-- says: the pixel Norder={norder} Npix={npix} of {table_name} is {problem}
-- repair: {pixel_repair}
WITH wrong AS (
    SELECT table_name, norder, npix, is_listed
    FROM pixels
    WHERE NOT is_listed OR n_files = 0
),

-- Where a file of the pixel is lost, what brings it back repairs both.
lost AS (
    SELECT table_name, norder, npix, min(path) AS path
    FROM lake_files
    GROUP BY table_name, norder, npix
)

SELECT
    w.table_name, w.norder, w.npix,
    CASE WHEN w.is_listed THEN 'listed and has no file' ELSE 'not listed' END AS problem,
    CASE WHEN w.is_listed THEN l.path END AS path
FROM wrong AS w
LEFT JOIN lost AS l USING (table_name, norder, npix);
