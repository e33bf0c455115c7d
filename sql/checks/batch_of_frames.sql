-- Parts with rows of a night belong to a camera that has frames of it.
-- fast
-- says: the part {part} of {table_name} has {n_rows} rows and belongs to no frames
-- repair: {orphan_repair}
SELECT p.table_name, p.part, p.bundle, p.n_rows
FROM lake_parts AS p
LEFT JOIN lake_parts AS f
    ON f.table_name = 'frames'
   AND f.camera = p.camera
   AND f.night = p.night
WHERE p.camera IS NOT NULL AND p.night IS NOT NULL AND p.n_rows > 0 AND f.part IS NULL
    -- A table that cannot be reached is found by snapshot_whole and document_readable.
    AND 'frames' IN (SELECT table_name FROM lake_tables);
