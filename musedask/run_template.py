"""The musedask.toml that a new run gets: every key with its default, as a comment."""

from __future__ import annotations

TEMPLATE = """\
# How this run is reduced. A key that is not given has the value that stands here as a comment.
# Paths are relative to this file's folder. Next: musedask frames, plan, reduce, status.

[reduction]
# Folders with raw frames (and CalSelector's XML), and with the static tables of the pipeline's
# calibration kit; all that lies below them is searched.
raw = ["raw"]
static = ["static"]

# What is reduced; everything if empty.
# modes = []              # INS MODE: ["WFM-NOAO-N", "WFM-AO-N"]
# targets = []            # OBS TARG NAME
# ifus = []               # 1 to 24; those that the frames have

# Which steps of the chain are done.
# dark = false            # make and use MASTER_DARKs
# lsf = true              # make LSF_PROFILEs from the arcs; else they lie with the static tables
# twilight = true         # make and use TWILIGHT_CUBEs
# illum = true            # use ILLUM flats
# filters = ["white"]     # images of each exposure
# sky = "model"           # "model", "subtract-model" (nearest SKY exposure), "simple", "none"
# sky_cubes = false       # SKY exposures become cubes too
# autocalib = "none"      # "none", "deepfield", "user" (with AUTOCAL_FACTORS)
# raman = true            # remove the laser's Raman lines from AO exposures

# Where the exposures point, and what is made with it.
# offsets = "exp_align"   # "exp_align" (the pipeline's), "measured" (musedask's own, with grades),
                          # "headers" (they are right), or a table of offsets
# reference = ""          # image or catalogue for "measured"; else relative to one another
# final = "none"          # "cubes" (each again, onto one grid), "combine", "none"
# combine_by = "target"   # "target", "pointing", "all"
# grid = "enclosing"      # or a FITS file that has the grid
# wavelengths = "nominal" # "nominal", "common"

# Tags of required calibrations without which a frame is reduced all the same.
# allow_missing = []

# Names of checks of what a recipe made whose complaints are warnings, not failures.
# tolerate = []

# How often a job that fails is tried.
# attempts = 2

# Hours after which a job that is not done is ended, since a recipe can run for ever without a
# word; 0 for fifty times what its recipe is known to take, and at least six; inf for no limit.
# hours_per_job = 0.0

# Days by which a calibration may be away from the frame that uses it.
# [reduction.windows]
# FLAT = 2

# Calibrations of your own choice; the last entry that fits counts.
# [[reduction.choose]]
# frames = "2021-03-04"   # a DATE-OBS, a file, a night, a tag, or "*"
# tag = "ILLUM"
# file = "MUSE.2021-03-05T02:11:09.123.fits"

# Parameters of a recipe, as `esorex --man-page muse_scipost` lists them.
# [reduction.muse_scipost]
# skymodel_fraction = 0.3

[cluster]
# kind = "threads"        # "threads" in this process, "local" processes, "slurm", "address"
# workers = 0             # jobs at a time, as far as memory allows; 0 for the number of cores
# memory = ""             # "16 GiB", what the machine has if empty; for "slurm", of each SLURM job
# cores = 0               # of each SLURM job, or threads of a process that stacks; 0 for one
# address = ""            # of a Dask scheduler: "tcp://host:8786"
# site = ""               # a site of yours: ~/.config/musedask/NAME.toml (configs/ has examples),
#                         # or a section of Dask's jobqueue configuration
# interface = ""          # network by which SLURM's nodes reach this machine: "ib0"
# tls = true              # encrypted connections, closed to other users
# dashboard = true        # Dask's dashboard, on this machine only
# folder = ""             # logs of SLURM's jobs; logs/slurm of this run if empty

# [cluster.options]       # further arguments of dask-jobqueue's SLURMCluster
# queue = "normal"        # the partition
# walltime = "12:00:00"   # three times the longest job, or more

# Keys that differ while frames are reduced ([cluster.reduce]), from muse_scipost on
# ([cluster.scipost]), in a stack ([cluster.stack]), and for --in-job ([cluster.client]).
# [cluster.stack]
# cores = 16
"""
