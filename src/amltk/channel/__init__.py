"""The way between a running call and the driver: messages, requests and notes.

::

    worker                                            driver
    line, inline ── connection ── wire ══════════════ peer ── exchange ── channel ── plugin, notes
                                    a ticket, sent with the call, opens it
"""
