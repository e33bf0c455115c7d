"""Cards that an image in an extension takes from the primary header of its file, as those of a mosaic do.

By the INHERIT convention (Hanisch et al. 2001, A&A 376, 359, appendix B) an extension that says ``INHERIT = T``
has the
cards of the primary header that it does not have itself. Many files do not say so and mean it: where the primary
header has no image of its own, its cards can only be about those that follow.
"""

from __future__ import annotations

import re
from typing import Any

#: Cards of the header's own data, and of a WCS, which is that of one image.
_OWN = re.compile(
    r"(SIMPLE|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM|EXT(NAME|VER|LEVEL)"
    r"|INHERIT|NEXTEND|COMMENT|HISTORY|CONTINUE|END|WCSAXES|LONPOLE|LATPOLE"
    r"|(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)\d|(CD|PC|PV)\d+_\d+|[AB]P?_(\d_\d|ORDER))?\Z"
)


def inherited(header: Any, primary: Any) -> Any:
    """Return the header of an extension with the cards that it inherits.

    Parameters
    ----------
    header, primary : astropy.io.fits.Header
    """
    inherit = header.get("INHERIT")
    if inherit is False or (inherit is not True and primary.get("NAXIS", 0) != 0):
        return header
    further = [card for card in primary.cards if not _OWN.match(card.keyword) and card.keyword not in header]
    if not further:
        return header
    whole = header.copy()
    whole.extend(further, unique=True)
    return whole
