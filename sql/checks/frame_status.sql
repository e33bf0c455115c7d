-- A frame is ok, or says why it is not.
SELECT frame_id, file, status, reason, message
FROM frames
WHERE status NOT IN ('ok', 'skipped', 'rejected', 'failed')
   OR (status = 'ok') <> (reason IS NULL)
   OR (status <> 'ok' AND message IS NULL);
