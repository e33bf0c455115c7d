-- Every target is one row of forced_sources in each frame that shows it.
-- deep: by frame_id
-- says: target {star_id} on frame {frame_id} is {n_rows} rows
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT frame_id, star_id, any_value(camera) AS camera, min(night) AS night, count(*) AS n_rows
FROM forced_sources
GROUP BY frame_id, star_id
HAVING count(*) > 1;
