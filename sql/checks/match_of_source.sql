-- Every match is of a detection of the lake.
SELECT m.frame_id, m.source_no, m.catalog
FROM matches AS m
LEFT JOIN sources AS s USING (frame_id, source_no)
WHERE s.frame_id IS NULL;
