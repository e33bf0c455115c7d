"""Compiled loops over pixels and sources; nothing else lives here, and nothing here is called without its wrapper.

Kernels are cached on disk. The cache of a kernel does not see changes in other files, so a kernel calls only
functions of its own module.
"""
