-- Generated from schemas/flags.yaml by `make generated`; do not edit.
-- The names of the bits that are set, as in `WHERE 'NAN_PIXELS' = ANY (frame_flags(flags))`. Safe to run again; run it
-- with the tables' schema in search_path.
CREATE OR REPLACE FUNCTION frame_flags(flags bigint) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(name ORDER BY bit), '{}')
    FROM (VALUES (1, 'EXPOSURE_ASSUMED'), (2, 'GAIN_ASSUMED'), (4, 'READ_NOISE_ASSUMED'), (8, 'FILTER_ASSUMED'), (16, 'TIME_FROM_NAME'), (32, 'SITE_UNKNOWN'), (64, 'NAN_PIXELS'), (128, 'THRESHOLD_RAISED'), (256, 'GATE_WARNING'), (512, 'APCOR_ASSUMED'), (1024, 'WCS_UNCHECKED'), (2048, 'FILTER_UNKNOWN'), (4096, 'MORE_IMAGES'), (8192, 'SKY_ONE_SIDED'), (16384, 'UNEVEN_IMAGES'), (32768, 'WCS_INTERPOLATED'), (65536, 'MANY_COSMIC_RAYS'), (131072, 'SKY_BELOW_ZERO'), (262144, 'HEADER_DOUBTED')) AS known (bit, name)
    WHERE flags & bit <> 0
$$;
