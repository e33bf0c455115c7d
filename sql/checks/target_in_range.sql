-- Targets are where positions can be, at an epoch of this age, and were seen on no more frames than there are.
-- deep: by star_id
-- says: target {star_id} of version {version} of {camera} is at {ra_deg} {dec_deg} for the epoch {epoch}, seen on {n_seen} of {n_frames} frames
-- repair: {version_repair}
SELECT 'targets' AS table_name, camera, version, star_id, ra_deg, dec_deg, epoch, n_seen, n_frames
FROM targets
WHERE NOT (ra_deg BETWEEN 0 AND 360 AND dec_deg BETWEEN -90 AND 90 AND epoch BETWEEN 1800 AND 2200
    AND version >= 1 AND n_seen >= 0 AND n_frames >= 0);
