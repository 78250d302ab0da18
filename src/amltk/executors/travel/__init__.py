"""How functions, arguments and outcomes travel to workers and back: as bytes.

::

    parcel, for engines that carry objects ── envelope: pickles, calls inside a guard, pickles again
"""
