"""Cache on disk the functions of the hats package that numba compiles.

The alignment of two pixel trees, which every join begins with, is compiled for ten seconds in each process that
does not find it.
"""

from __future__ import annotations

from functools import cache

from skylake.core.kernel_cache import compile_once


@cache
def keep_compiled() -> None:
    """Let numba keep the functions that align pixel trees, beside their source or in the user's cache folder.

    Where neither can be written they are compiled in each process, as they are without this.
    """
    from hats.pixel_tree import moc_filter, pixel_alignment
    from numba.core.dispatcher import Dispatcher

    compile_once()
    for module in (pixel_alignment, moc_filter):
        for function in vars(module).values():
            if isinstance(function, Dispatcher):
                try:
                    function.enable_caching()
                except RuntimeError:  # There is no folder to keep it in.
                    return
