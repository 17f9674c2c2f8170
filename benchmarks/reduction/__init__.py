"""Raw frames to exposure cubes: musedask beside a shell script of the same calls of esorex."""
