-- Positions are on the sky, times are those of the frame, errors are positive.
-- deep: by frame_id
-- says: detection {source_no} of frame {frame_id} is at {ra_deg}, {dec_deg} and MJD {mjd_mid}, its frame at MJD {frame_mjd_mid}
-- repair: skylake ingest {lake} --camera {camera} --redo --from {night} --to {night} PATH…
SELECT s.camera, s.night, s.frame_id, s.source_no, s.ra_deg, s.dec_deg, s.mjd_mid, f.mjd_mid AS frame_mjd_mid
FROM sources AS s
INNER JOIN frames AS f USING (frame_id)
WHERE s.ra_deg < 0 OR s.ra_deg >= 360
   OR abs(s.dec_deg) > 90
   OR s.mjd_mid IS DISTINCT FROM f.mjd_mid
   OR least(s.flux_aper1_err, s.flux_aper2_err, s.flux_aper3_err, s.flux_kron_err) <= 0
   OR list_min(s.more_apertures.flux_aper_err) <= 0;
