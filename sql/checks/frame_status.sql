-- A frame is ok, or says why it is not.
-- fast
-- says: {file} has the status {status}, the reason {reason} and the message {message}
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT frame_id, camera, night, file, status, reason, message
FROM frames
WHERE status NOT IN ('ok', 'skipped', 'rejected', 'failed')
   OR (status = 'ok') <> (reason IS NULL)
   OR (status <> 'ok' AND message IS NULL);
