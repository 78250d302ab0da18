"""The loop that brings scheduler, optimizer and history together.

::

    loop ── search ── asking
"""
