-- Drops the views of 20_views.sql, to be made anew: CREATE OR REPLACE VIEW refuses a change of columns, frames.* grows
-- with the schema, and a type that a view shows cannot be widened. Run it with the tables' schema in search_path.

DROP VIEW IF EXISTS calibrated_frames, night_summary, frames_by_reason;
