-- Views over the mirrored tables, which 00_no_views.sql has dropped before. Run it with the tables' schema in search_path.

CREATE VIEW calibrated_frames AS
SELECT
    f.*,
    z.catalog,
    z.version,
    z.band AS zp_band,
    z.flux,
    z.zp,
    z.zp_err,
    z.mag_limit,
    z.zp - 2.5 * log(nullif(f.flux_limit_counts, 0)::double precision) AS mag_limit_counts,
    z.zp - 2.5 * log(nullif(f.flux_limit_injected, 0)::double precision) AS mag_limit_injected,
    z.colour,
    z.pivot_colour,
    z.colour_term,
    z.colour_term_err,
    z.n_used,
    z.rms
FROM frames AS f
JOIN zeropoints AS z USING (frame_id)
WHERE z.zp IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM zeropoints AS later
        WHERE later.frame_id = z.frame_id AND later.catalog = z.catalog AND later.version > z.version
    );
COMMENT ON VIEW calibrated_frames IS
    'Frames with the zeropoint in force: of each reference catalog the one with the largest version. A frame that the largest version could not calibrate is missing; a frame has one row per catalog.';

CREATE VIEW night_summary AS
SELECT
    camera,
    night,
    string_agg(band, ' ' ORDER BY band) FILTER (WHERE band <> '') AS bands,
    sum(n_frames)::bigint AS n_frames,
    sum(n_ok)::bigint AS n_ok,
    sum(n_rejected)::bigint AS n_rejected,
    sum(n_failed)::bigint AS n_failed,
    sum(n_skipped)::bigint AS n_skipped,
    min(mjd_first) AS mjd_first,
    max(mjd_last) AS mjd_last,
    sum(exposure_s) AS exposure_s,
    sum(n_sources)::bigint AS n_sources,
    sum(n_matched)::bigint AS n_matched,
    sum(n_zeropoints)::bigint AS n_zeropoints
FROM nights
GROUP BY camera, night;
COMMENT ON VIEW night_summary IS
    'One row per camera and night: the counts of its bands added up. Night 0 holds the frames without a time.';

CREATE VIEW frames_by_reason AS
SELECT
    camera,
    night,
    status,
    reason,
    count(*) AS n_frames
FROM frames
GROUP BY camera, night, status, reason;
COMMENT ON VIEW frames_by_reason IS
    'Frames per camera, night, status and reason. Every frame given to skylake counts once.';
