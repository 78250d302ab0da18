"""Reports as rows, as JSON and as files, and back.

::

    files ── record, rows ── codec ── errors ── pickled
                  └── parts

No trial is known here, only what reports are made of.
"""
