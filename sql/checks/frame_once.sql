-- Every frame is one row of frames.
SELECT frame_id, count(*) AS n_rows
FROM frames
GROUP BY frame_id
HAVING count(*) > 1;
