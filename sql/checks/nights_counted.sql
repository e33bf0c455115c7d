-- Nights count every frame once.
-- fast
-- says: night {night} of {camera} has {n_frames} frames, and {n_frames_of_nights} in nights
-- repair: skylake aggregate {lake} nights
SELECT f.camera, f.night, f.n_frames, n.n_frames AS n_frames_of_nights
FROM (SELECT camera, night, count(*) AS n_frames FROM frames GROUP BY ALL) AS f
INNER JOIN (SELECT camera, night, sum(n_frames) AS n_frames FROM nights GROUP BY ALL) AS n USING (camera, night)
WHERE f.n_frames <> n.n_frames;
