"""From nights of VLT/MUSE exposures to one deep mega-cube, with Dask."""
