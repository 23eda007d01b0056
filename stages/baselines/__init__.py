"""Recommenders to compare with, one module each: `Params` and `recommend`."""
