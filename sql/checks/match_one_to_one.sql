-- In a frame, a detection is one star at most, and a star one detection.
-- deep: by frame_id
-- says: {twice} {number} of frame {frame_id} is matched {n_rows} times with {catalog}
-- repair: {version_repair}
SELECT 'matches' AS table_name, 'detection' AS twice, frame_id, catalog, source_no AS number, count(*) AS n_rows
FROM matches
GROUP BY ALL
HAVING count(*) > 1
UNION ALL
SELECT 'matches', 'star', frame_id, catalog, ref_id, count(*)
FROM matches
GROUP BY ALL
HAVING count(*) > 1;
