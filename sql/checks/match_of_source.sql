-- Every match is of a detection of the lake.
-- deep: by frame_id
-- says: detection {source_no} of frame {frame_id}, which is matched with {catalog}, is not in the lake
-- repair: skylake calibrate {lake}
SELECT m.frame_id, m.source_no, m.catalog, m.camera, m.night
FROM matches AS m
LEFT JOIN sources AS s USING (frame_id, source_no)
WHERE s.frame_id IS NULL;
