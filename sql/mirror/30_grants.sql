-- A role that may read the mirror: GRANT skylake_reader TO someone. Where the database does not let us create roles
-- or grant, for example on a hosted server, nothing happens. Safe to run again; run it with the tables' schema in
-- search_path.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'skylake_reader') THEN
        CREATE ROLE skylake_reader NOLOGIN;
    END IF;
EXCEPTION
    -- Two mirrors may create it at once: roles belong to the whole server.
    WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
        RAISE NOTICE 'the role skylake_reader is not created: %', SQLERRM;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'skylake_reader') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO skylake_reader', current_schema());
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'the role skylake_reader gets no right to the schema: %', SQLERRM;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'skylake_reader') THEN
        GRANT SELECT ON
            frames, zeropoints, nights, photometric_nights, calibrated_frames, night_summary, frames_by_reason,
            mirror_parts, mirror_state
        TO skylake_reader;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'the role skylake_reader gets no right to the tables: %', SQLERRM;
END
$$;
