-- The validity of every master begins before it ends, and its frames are of the age of photography.
-- fast
-- says: the master {name} is valid from {valid_from_mjd} to {valid_to_mjd}, and its frames are of {mjd_mid}
-- repair: skylake calib build {lake} --camera {camera} --valid-from TIME --valid-to TIME PATH…
SELECT name, camera, valid_from_mjd, valid_to_mjd, mjd_mid
FROM masters
WHERE valid_from_mjd >= valid_to_mjd
    OR NOT isfinite(coalesce(valid_from_mjd, 0)) OR NOT isfinite(coalesce(valid_to_mjd, 0))
    OR coalesce(mjd_mid, 50000) NOT BETWEEN 15000 AND 120000;
