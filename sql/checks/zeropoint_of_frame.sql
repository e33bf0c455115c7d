-- Every zeropoint is of a frame of the lake.
SELECT z.frame_id, z.catalog, z.version
FROM zeropoints AS z
LEFT JOIN frames AS f USING (frame_id)
WHERE f.frame_id IS NULL;
