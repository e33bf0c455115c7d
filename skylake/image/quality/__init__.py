"""How good and how deep a frame is, and whether it is accepted."""
