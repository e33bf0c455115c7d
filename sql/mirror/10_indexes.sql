-- What people look for in the mirror. Safe to run again; run it with the tables' schema in search_path.

CREATE INDEX IF NOT EXISTS frames_camera_night ON frames (camera, night);
CREATE INDEX IF NOT EXISTS frames_mjd_mid ON frames (mjd_mid);
CREATE INDEX IF NOT EXISTS frames_status_reason ON frames (status, reason);
CREATE INDEX IF NOT EXISTS zeropoints_camera_night ON zeropoints (camera, night);
CREATE INDEX IF NOT EXISTS zeropoints_band_mjd_mid ON zeropoints (band, mjd_mid);
