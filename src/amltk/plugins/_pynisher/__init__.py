"""What ``PynisherPlugin`` is made of: how a call gets a process of its own, and how that ends.

::

    worker:          call ── pynisher ── process ── start
    beside it:       keeper, a process for each call ── child, the process of the call
"""
