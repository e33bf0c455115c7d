-- In a frame, a detection is one star at most, and a star one detection.
SELECT 'detection' AS twice, frame_id, catalog, source_no AS number, count(*) AS n_rows
FROM matches
GROUP BY ALL
HAVING count(*) > 1
UNION ALL
SELECT 'star', frame_id, catalog, ref_id, count(*)
FROM matches
GROUP BY ALL
HAVING count(*) > 1;
