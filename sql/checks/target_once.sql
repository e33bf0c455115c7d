-- Every star is once in a version of the list of a camera.
-- deep: by star_id
-- says: star {star_id} is {n_rows} times in version {version} of the targets of {camera}
-- repair: {version_repair}
SELECT 'targets' AS table_name, camera, version, star_id, count(*) AS n_rows
FROM targets
GROUP BY ALL
HAVING count(*) > 1;
