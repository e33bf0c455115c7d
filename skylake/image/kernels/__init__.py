"""Compiled loops over pixels and sources; nothing else lives here, and nothing here is called without its wrapper.

Each is a ``kernel`` of :mod:`skylake.core.kernels`.

Kernels are cached on disk, and the cache of one does not see changes in other files. So a kernel calls functions of
its own module, and those few that modules share; whoever changes one of the latter removes ``__pycache__`` here.

Everybody's first night waits for the compiler. An array that is assigned to a part of another, ``np.diff`` or
``np.median`` takes it three seconds, since their messages are compiled along; a loop takes nothing.
"""
