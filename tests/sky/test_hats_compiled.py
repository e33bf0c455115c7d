from __future__ import annotations

from numba.core.dispatcher import Dispatcher

from skylake.sky.hats_compiled import keep_compiled


def test_compiled_alignment_is_kept_between_processes() -> None:
    from hats.pixel_tree import moc_filter, pixel_alignment

    keep_compiled()
    functions = [
        one
        for module in (pixel_alignment, moc_filter)
        for one in vars(module).values()
        if isinstance(one, Dispatcher)
    ]
    assert functions
    assert all(one.stats.cache_path for one in functions)
