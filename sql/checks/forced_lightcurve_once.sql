-- A target has one row of its light curve per camera, band and night, with as many points as it counts, in the order of time,
-- and one point of each frame at most.
-- deep: by star_id
-- says: target {star_id} of {camera} has a light curve in {band} with {n_points} points recorded, {n_rows} there, of {n_frames} frames
-- repair: {version_repair}
SELECT 'forced_lightcurves' AS table_name, camera, star_id, band, n_points, len(lightcurve.mjd_mid) AS n_rows,
    len(list_distinct(lightcurve.frame_id)) AS n_frames
FROM forced_lightcurves
QUALIFY count(*) OVER (PARTITION BY camera, star_id, band, night) > 1
     OR n_points <> len(lightcurve.mjd_mid)
     OR len(list_distinct(lightcurve.frame_id)) <> n_points
     OR lightcurve.mjd_mid <> list_sort(lightcurve.mjd_mid);
