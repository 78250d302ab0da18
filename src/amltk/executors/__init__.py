"""Turning any engine into a ``concurrent.futures.Executor``, and saying what it can do.

::

    registry ── engine ── traits              what the scheduler asks
    processes  recovery  dask  jobqueue       a room for each engine; those of one file are
    ray  airflow  sequential  threads  loky   files
    travel  termination                       what engines share
"""

from amltk._lazy import keep_older_roads

keep_older_roads(__name__, {"airflow_dag": "airflow.dag", "envelope": "travel.envelope"})
