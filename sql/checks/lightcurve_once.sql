-- A star has one row of its light curve per catalog, band, camera and night, with as many points as it counts, in the order
-- of time.
-- deep: by object_id
-- says: star {object_id} of {catalog} has a light curve in {band} with {n_points} points recorded and {n_rows} there
-- repair: {version_repair}
SELECT 'lightcurves' AS table_name, catalog, object_id, band, n_points, len(lightcurve.mjd_mid) AS n_rows
FROM lightcurves
QUALIFY count(*) OVER (PARTITION BY catalog, object_id, band, camera, night) > 1
     OR n_points <> len(lightcurve.mjd_mid)
     OR lightcurve.mjd_mid <> list_sort(lightcurve.mjd_mid);
