"""How two images of one field are brought to agree: arrays in, arrays out.

``matching`` brings the reference to the exposure's lattice and resolution,
``correlating`` finds the offset roughly, however large it is, ``fitting`` measures
each source by itself, and ``combining`` finds what they agree on.
"""
