"""What a reduction leaves to look at: quality, the frames that were used, the exposures."""
