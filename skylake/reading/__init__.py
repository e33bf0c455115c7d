"""The front door for Python: a lake opened for reading, as ``skylake.open`` gives it."""

from skylake.reading.lightcurves import LightCurve
from skylake.reading.reader import LakeReader
from skylake.reading.rows import Rows
from skylake.reading.tables import Table
from skylake.reading.views import View

__all__ = ["LakeReader", "LightCurve", "Rows", "Table", "View"]
