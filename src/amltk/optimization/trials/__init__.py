"""One try of a configuration: what a function is given, and the report it gives back.

::

    task ── trial ── report ── metric, measure
"""
