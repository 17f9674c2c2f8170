"""A sky, observed again as MUSE exposures whose truth is known."""
