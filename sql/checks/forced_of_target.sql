-- Every forced measurement is of a target in the version of the list that it names, at the place which that gives.
-- deep: by star_id
-- says: {n_rows} measurements of star {star_id} by {camera} in the night {night} are of version {targets_version} of the list, which does not have it or has it elsewhere
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT s.star_id, s.camera, s.night, s.targets_version, count(*) AS n_rows
FROM forced_sources AS s
LEFT JOIN targets AS t ON t.camera = s.camera AND t.version = s.targets_version AND t.star_id = s.star_id
WHERE t.star_id IS NULL OR t._healpix_29 <> s._healpix_29
GROUP BY ALL;
