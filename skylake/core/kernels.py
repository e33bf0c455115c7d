"""How functions are compiled by numba: kernels, which Python calls, and their parts, which only kernels call.

Everybody's first night waits for the compiler, and what lets Python call a function is a third of what there is to
compile of a small one. It is also linked into each function that calls it, and compiled again there. So parts do
without it, and nothing is made for callers in C.

What is compiled is kept on disk, by one process for all (:mod:`skylake.core.compiled`); it runs without Python's lock.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numba

from skylake.core.compiled import compile_once

compile_once()


def kernel(function: Any = None, **options: Any) -> Any:
    """Decorate a function that Python calls, or kernels.

    Parameters
    ----------
    function : callable
    **options
        More options of ``numba.njit``, as ``@kernel(error_model="numpy")``.

    Returns
    -------
    numba dispatcher
        Or a decorator, where only options are given.
    """
    if function is None:
        return lambda one: kernel(one, **options)
    return numba.njit(function, cache=True, nogil=True, no_cfunc_wrapper=True, **options)


def part(function: Any = None, **options: Any) -> Any:
    """Decorate a function that kernels and their parts call, and nobody else.

    Parameters
    ----------
    function : callable
    **options
        More options of ``numba.njit``, as ``@part(error_model="numpy")``.

    Returns
    -------
    numba dispatcher
        Or a decorator, where only options are given. Called from Python, it raises TypeError.
    """
    if function is None:
        return lambda one: part(one, **options)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise TypeError(f"{function.__name__} is a part of kernels: it has no way in from Python")

    found = kernel(function, no_cpython_wrapper=True, **options)
    # Numba would jump to what was not compiled. So it gets to know no address, and where it knows none it compiles for
    # the arguments of the call.
    found._insert = lambda *_, **__: None
    found._compile_for_args = refuse
    return found
