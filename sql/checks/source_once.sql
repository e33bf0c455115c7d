-- Every detection is one row of sources.
-- deep: by frame_id
-- says: detection {source_no} of frame {frame_id} is {n_rows} rows
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT frame_id, source_no, any_value(camera) AS camera, min(night) AS night, count(*) AS n_rows
FROM sources
GROUP BY frame_id, source_no
HAVING count(*) > 1;
