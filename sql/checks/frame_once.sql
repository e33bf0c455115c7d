-- Every frame is one row of frames.
-- fast
-- says: frame {frame_id} of {camera} is {n_rows} rows
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT frame_id, any_value(camera) AS camera, min(night) AS night, count(*) AS n_rows
FROM frames
GROUP BY frame_id
HAVING count(*) > 1;
