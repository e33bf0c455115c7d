-- A night has as many frames as its part says.
-- fast
-- says: the part {part} counts {n_rows_recorded} frames where {n_rows} are of {camera} in the night {night}
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT p.part, camera, night, coalesce(p.n_rows, 0) AS n_rows_recorded, coalesce(f.n_rows, 0) AS n_rows
FROM (SELECT camera, night, count(*) AS n_rows FROM frames GROUP BY ALL) AS f
FULL JOIN (
    SELECT any_value(part) AS part, camera, night, sum(n_rows)::BIGINT AS n_rows
    FROM lake_parts
    WHERE table_name = 'frames'
    GROUP BY camera, night
) AS p USING (camera, night)
WHERE coalesce(p.n_rows, 0) <> coalesce(f.n_rows, 0);
