-- The profile of every camera that has frames is kept.
-- fast
-- says: {n_frames} frames are of {camera}, whose profile is missing
-- repair: skylake ingest {lake} --camera {camera} PATH…
SELECT f.camera, count(*) AS n_frames
FROM frames AS f
LEFT JOIN cameras AS c USING (camera)
WHERE c.camera IS NULL
GROUP BY f.camera;
