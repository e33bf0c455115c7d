-- Every forced measurement is of a frame of the lake, of the same camera and night.
-- deep: by frame_id
-- says: {n_rows} forced measurements of {camera} in the night {night} are of frame {frame_id}, which is not in the lake or of another night
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT s.frame_id, s.camera, s.night, count(*) AS n_rows
FROM forced_sources AS s
LEFT JOIN frames AS f USING (frame_id)
WHERE f.frame_id IS NULL OR f.camera <> s.camera OR f.night <> s.night
GROUP BY ALL;
