"""Raw frames -> esorex recipes as resumable Dask tasks -> exposure cubes."""
