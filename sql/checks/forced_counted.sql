-- A frame has as many forced measurements as it says.
-- deep: by frame_id
-- says: frame {frame_id} has {n_targets} targets, and forced_sources has {n_rows} of it
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT f.frame_id, f.camera, f.night, f.n_targets, coalesce(s.n_rows, 0) AS n_rows
FROM frames AS f
LEFT JOIN (SELECT frame_id, count(*) AS n_rows FROM forced_sources GROUP BY frame_id) AS s USING (frame_id)
WHERE f.n_targets <> coalesce(s.n_rows, 0);
