-- Every detection is of a frame of the lake, of the same camera and night.
SELECT s.frame_id, s.camera, s.night, count(*) AS n_rows
FROM sources AS s
LEFT JOIN frames AS f USING (frame_id)
WHERE f.frame_id IS NULL OR f.camera <> s.camera OR f.night <> s.night
GROUP BY ALL;
