-- Every file has, byte for byte, the content that it was written with.
-- deep
-- says: the file {path} of {table_name} has the SHA-256 {sha256} where {sha256_recorded} is recorded
-- repair: {file_repair}
SELECT l.table_name, l.path, s.sha256, l.sha256 AS sha256_recorded
FROM lake_files AS l
INNER JOIN file_scans AS s USING (table_name, path)
WHERE l.sha256 <> s.sha256;
