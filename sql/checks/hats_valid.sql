-- HATS tables and reference catalogs pass the strict validation of the hats package.
-- hats
-- says: {name} is not valid: {problem}
-- repair: {hats_repair}
SELECT name, folder, problem
FROM hats_validations
WHERE problem IS NOT NULL;
