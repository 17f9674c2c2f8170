"""Kinds and sizes on which Python and the kernels agree."""

from __future__ import annotations

COPY, DRIFT, DRIFT_LANCZOS, NEAREST, BILINEAR, LANCZOS, EXACT = range(7)
MEAN, MEDIAN, CLIPPED, CLIPPED_MPDAF = range(4)

LANCZOS_PHASES = 1024
LANCZOS_TAPS = 6
STRIP_ROWS = 24
BORDER = 3
"""Missing pixels around a frame in scratch, for taps that reach over its edge."""
HALO = 4
"""Rows and columns around a pixel from which the clipping takes the image's structure:
the reach of the pairs below, and one for the mean of 3 x 3."""
LANES = 8
"""Channels that are gathered side by side: a pixel's weights are looked up once for all."""
FEW = 16
"""Exposures whose values are added in float32 before they are added in float64, and are
sorted in registers."""
MPDAF_RULES = 5
"""Where the rules of mpdaf's clipping start."""
