"""Where Dask runs, and what it is like there."""

from musedask.cluster.opening import open_cluster
from musedask.cluster.place import Cluster, ends_of, open_now
from musedask.cluster.sizes import GIB, bytes_of, cores, machine_memory, memory_of

__all__ = [
    "GIB",
    "Cluster",
    "bytes_of",
    "cores",
    "ends_of",
    "machine_memory",
    "memory_of",
    "open_cluster",
    "open_now",
]
