"""Camera profiles: TOML files in dated blocks, shipped here or written by an observatory.

A profile is a table of the keys in :class:`skylake.core.camera.Camera`, with four more::

    like = "skycam-z"            take everything from another profile and change what follows
    [[period]]                   changes that hold from one date to another
    from = 2013-02-01
    until = 2014-06-30
    detector.gain_e_per_adu = 2.4
    [[chip]]                     one of several detectors, a camera of its own that is called <name>-C1
    name = "C1"
    header.extension = 1
    place.x_arcsec = 1035.0
"""

from skylake.cameras.header import describe_header, read_header
from skylake.cameras.header_values import HeaderReading, Reading
from skylake.cameras.profile import Profile, load, load_chips, names

__all__ = [
    "HeaderReading",
    "Profile",
    "Reading",
    "describe_header",
    "load",
    "load_chips",
    "names",
    "read_header",
]
