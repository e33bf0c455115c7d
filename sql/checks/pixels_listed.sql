-- The pixels that partition_info.csv lists are those that have files.
-- fast
-- says: the pixel Norder={norder} Npix={npix} of {table_name} is {problem}
-- mend: {version_mend}
SELECT
    table_name, norder, npix, CASE WHEN is_listed THEN 'listed and has no file' ELSE 'not listed' END AS problem
FROM pixels
WHERE NOT is_listed OR n_files = 0;
