-- The file of every master is in the lake, with the size that the library gives.
-- fast
-- says: {file} of the master {name} {problem}
-- repair: restore {file} from a copy of the lake, or make it again: skylake calib build {lake} --camera {camera} PATH…
SELECT m.name, m.camera, m.file,
    CASE WHEN d.n_bytes IS NULL THEN 'is not there'
        ELSE 'has ' || d.n_bytes || ' bytes where the library gives ' || m.file_bytes END AS problem
FROM masters AS m
LEFT JOIN master_files AS d USING (file)
WHERE d.n_bytes IS NULL OR d.n_bytes <> m.file_bytes;
