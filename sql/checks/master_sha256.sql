-- The file of every master has the bytes that were written.
-- deep
-- says: {file} of the master {name} has other bytes than were written
-- repair: restore {file} from a copy of the lake, or make it again: skylake calib build {lake} --camera {camera} PATH…
SELECT m.name, m.camera, m.file
FROM masters AS m
INNER JOIN master_scans AS s USING (file)
WHERE s.sha256 IS DISTINCT FROM m.sha256;
