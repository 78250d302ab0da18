"""Reports as rows, as JSON and as files, and back.

::

    files ── record, rows ── codec, parts ── errors ── pickled

No trial is known here, only what reports are made of.
"""
