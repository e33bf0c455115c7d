-- Frames that have positions have all the detections that they counted, the others none.
-- deep: by frame_id
-- says: {file} has {n_rows} rows in sources, and {n_detected} detections with the status {status}
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT f.camera, f.night, f.frame_id, f.file, f.status, f.reason, f.n_detected, count(s.source_no) AS n_rows
FROM frames AS f
LEFT JOIN sources AS s USING (frame_id)
GROUP BY ALL
HAVING count(s.source_no) <> CASE
    WHEN f.status IN ('failed', 'skipped') OR f.reason IN ('no_wcs', 'bad_wcs') THEN 0
    ELSE coalesce(f.n_detected, 0)
END;
