-- Nights count every frame once; those whose frames have changed since are for the next `skylake aggregate`.
-- fast
-- says: night {night} of {camera} has {n_frames} frames, and {n_frames_of_nights} in nights
-- repair: skylake aggregate {lake} nights
SELECT f.camera, f.night, f.n_frames, n.n_frames AS n_frames_of_nights
FROM (SELECT camera, night, count(*) AS n_frames FROM frames GROUP BY ALL) AS f
INNER JOIN (SELECT camera, night, sum(n_frames) AS n_frames FROM nights GROUP BY ALL) AS n USING (camera, night)
SEMI JOIN (
    SELECT made.camera, made.night
    FROM lake_parts AS made
    INNER JOIN lake_parts AS source USING (camera, night)
    WHERE made.table_name = 'nights' AND source.table_name = 'frames' AND made.frames_checksum = source.checksum
) AS current USING (camera, night)
WHERE f.n_frames <> n.n_frames;
