"""Open the star patterns of a lake's catalog on a worker when the first frame needs them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.reasons import Reason
from skylake.errors import CatalogError
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, Unsolved, solve
from skylake.sky.asterism_index import AsterismIndex, open_index
from skylake.sky.lake_catalogs import ReferenceCatalog

Floats = npt.NDArray[np.float64]


class Patterns:
    """A solver by the index of a catalog; without an index no frame is solved, and the error says how to make one.

    Parameters
    ----------
    catalog : ReferenceCatalog
    """

    def __init__(self, catalog: ReferenceCatalog) -> None:
        self._catalog = catalog
        self._index: AsterismIndex | None = None
        self._lacking = ""

    def __call__(
        self, x: Floats, y: Floats, flux: Floats, shape: tuple[int, int], params: SolveParams
    ) -> Solution | Unsolved:
        """Solve a frame by its sources; see :func:`skylake.image.solving.solve_stars.solve`."""
        if self._index is None and not self._lacking:
            try:
                self._index = open_index(self._catalog)
            except CatalogError as error:
                self._lacking = str(error)
        if self._index is None:
            return Unsolved(Reason.NO_WCS, self._lacking, -math.inf, 0, 0.0, without_index=True)
        return solve(self._index.bands, x, y, flux, shape, params, self._index.called)
