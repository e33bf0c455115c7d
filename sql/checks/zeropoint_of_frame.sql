-- Every zeropoint is of a frame of the lake.
-- fast
-- says: there is a zeropoint of frame {frame_id} for {catalog}, version {version}, and no such frame
-- repair: skylake calibrate {lake} --catalog {catalog}
SELECT z.frame_id, z.catalog, z.version
FROM zeropoints AS z
LEFT JOIN frames AS f USING (frame_id)
WHERE f.frame_id IS NULL;
