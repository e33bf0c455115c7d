-- A frame measures a star once: a light curve has one point of each frame at most.
-- deep: by object_id
-- says: star {object_id} of {catalog} has {n_points} points of frame {frame_id} in {band}
-- repair: {version_repair}
SELECT 'lightcurves' AS table_name, catalog, object_id, band, frame_id, count(*) AS n_points
FROM (SELECT catalog, object_id, band, unnest(lightcurve.frame_id) AS frame_id FROM lightcurves)
GROUP BY ALL
HAVING count(*) > 1;
