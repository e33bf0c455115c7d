-- Settings, camera profiles, records, descriptions and lists can be read and understood.
-- fast
-- says: {path} ({kind}) cannot be used: {problem}
-- repair: {document_repair}
SELECT path, kind, table_name, problem
FROM documents;
