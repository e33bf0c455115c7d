"""Raw pixels to an image: overscan, bias, dark, flat, bad pixels and cosmic rays."""
