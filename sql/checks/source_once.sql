-- Every detection is one row of sources.
SELECT frame_id, source_no, count(*) AS n_rows
FROM sources
GROUP BY frame_id, source_no
HAVING count(*) > 1;
