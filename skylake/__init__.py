"""Frames of a wide-field camera in, a lake of calibrated tables out."""

__version__ = "0.1.0"
