-- Every star is once in a list of the targets of a camera: in the full list, or in one of those that extend it.
-- deep: by star_id
-- says: star {star_id} is {n_rows} times in version {version} of the targets of {camera}
-- repair: {version_repair}
SELECT
    'targets' AS table_name, camera, max(version) AS version, coalesce(base_version, version) AS base, star_id,
    count(*) AS n_rows
FROM targets
GROUP BY ALL
HAVING count(*) > 1;
