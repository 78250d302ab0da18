"""Reports as rows, as JSON and as files, and back.

::

    files ── record ── rows ── codec ── errors, pickled
"""
