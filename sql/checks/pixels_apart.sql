-- The pixels of a table do not overlap.
-- fast
-- says: the pixels Norder={norder} Npix={npix} and Norder={other_norder} Npix={other_npix} of {table_name} overlap
-- repair: {version_repair}
SELECT a.table_name, a.norder, a.npix, b.norder AS other_norder, b.npix AS other_npix
FROM pixels AS a
INNER JOIN pixels AS b
    ON a.table_name = b.table_name
   AND a.norder < b.norder
   AND b.npix >> (2 * (b.norder - a.norder)) = a.npix;
