"""Positions, shapes and aperture fluxes of detected sources."""
