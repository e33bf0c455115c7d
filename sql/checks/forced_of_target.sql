-- Every forced measurement is of a target in the version of the list that it names, at the place which that gives.
-- deep: by star_id
-- says: {n_rows} measurements of star {star_id} by {camera} in the night {night} are of version {targets_version} of the list, which does not have it or has it elsewhere
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
WITH measured AS (
    SELECT star_id, camera, night, targets_version, _healpix_29, count(*) AS n_rows FROM forced_sources GROUP BY ALL
),
lists AS (
    SELECT camera, version, max(coalesce(base_version, version)) AS base FROM targets GROUP BY camera, version
),
-- A list has the targets of the full list that it extends, and of all lists between the two. Among some stars only,
-- full lists may be missing that have none of them.
used AS (
    SELECT m.camera, m.targets_version, max(l.base) AS base
    FROM (SELECT DISTINCT camera, targets_version FROM measured) AS m
    INNER JOIN lists AS l ON l.camera = m.camera AND l.version <= m.targets_version
    GROUP BY m.camera, m.targets_version
)
SELECT m.star_id, m.camera, m.night, m.targets_version, sum(m.n_rows)::BIGINT AS n_rows
FROM measured AS m
LEFT JOIN used AS u ON u.camera = m.camera AND u.targets_version = m.targets_version
LEFT JOIN targets AS t
    ON t.camera = m.camera AND t.star_id = m.star_id AND t.version BETWEEN u.base AND m.targets_version
WHERE t.star_id IS NULL OR t._healpix_29 <> m._healpix_29
GROUP BY ALL;
