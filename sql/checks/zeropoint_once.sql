-- A frame has one zeropoint per catalog and version, or one reason why not.
-- fast
-- says: frame {frame_id} has {n_rows} rows for {catalog}, version {version}, with the zeropoint {zp} and the reason {reason}
-- repair: skylake calibrate {lake} --catalog {catalog} --version N
SELECT frame_id, catalog, version, count(*) AS n_rows, any_value(zp) AS zp, any_value(reason) AS reason
FROM zeropoints
GROUP BY frame_id, catalog, version
HAVING count(*) > 1 OR count(zp) + count(reason) <> 1 OR min(zp_err) <= 0;
