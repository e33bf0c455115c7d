-- The pixels that partition_info.csv lists are those that have files.
-- fast
-- says: the pixel Norder={norder} Npix={npix} of {table_name} is {problem}
-- mend: {pixel_mend}
SELECT
    p.table_name, p.norder, p.npix,
    CASE WHEN p.is_listed THEN 'listed and has no file' ELSE 'not listed' END AS problem,
    -- Where a file of the pixel is lost, what brings it back mends both.
    CASE WHEN p.is_listed THEN min(l.path) END AS path
FROM pixels AS p
LEFT JOIN lake_files AS l USING (table_name, norder, npix)
WHERE NOT p.is_listed OR p.n_files = 0
GROUP BY ALL;
