-- The link `current` leads to a snapshot, and the links of the tables lead through it.
-- fast
-- says: the link {link} {problem}
-- repair: {pointer_repair}
SELECT link, target, wanted, problem
FROM pointers
WHERE problem IS NOT NULL;
