"""Camera profiles: TOML files in dated blocks, shipped here or written by an observatory.

A profile is a table of the keys in :class:`skylake.core.camera.Camera`, with three more::

    like = "skycam-z"            take everything from another profile and change what follows
    [[period]]                   changes that hold from one date to another
    from = 2013-02-01
    until = 2014-06-30
    detector.gain_e_per_adu = 2.4
"""

from skylake.cameras.header import describe_header, read_header
from skylake.cameras.profile import Profile, load, names
from skylake.cameras.reading import HeaderReading, Reading

__all__ = ["HeaderReading", "Profile", "Reading", "describe_header", "load", "names", "read_header"]
