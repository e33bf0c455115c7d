"""Skies of near-infrared frames, made from the frames around them."""
