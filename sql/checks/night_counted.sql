-- The frames of a night that have positions counted as many detections as its part of sources has rows.
-- fast
-- says: night {night} of {camera} has {n_rows} rows in sources where its frames count {n_detected} detections
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT camera, night, coalesce(f.n_detected, 0) AS n_detected, coalesce(p.n_rows, 0) AS n_rows
FROM (
    SELECT camera, night, sum(n_detected)::BIGINT AS n_detected
    FROM frames
    WHERE status IN ('ok', 'rejected') AND coalesce(reason, '') NOT IN ('no_wcs', 'bad_wcs')
    GROUP BY ALL
) AS f
FULL JOIN (
    SELECT camera, night, sum(n_rows)::BIGINT AS n_rows
    FROM lake_parts
    WHERE table_name = 'sources'
    GROUP BY ALL
) AS p USING (camera, night)
WHERE coalesce(f.n_detected, 0) <> coalesce(p.n_rows, 0)
    -- A table that cannot be reached is found by snapshot_whole and document_readable.
    AND (SELECT count(*) FROM lake_tables WHERE table_name IN ('frames', 'sources')) = 2;
