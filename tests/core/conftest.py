from __future__ import annotations

from hypothesis import settings

# The first call of a law may import astropy or compile; that says nothing about the code.
settings.register_profile("skylake", deadline=None)
settings.load_profile("skylake")
