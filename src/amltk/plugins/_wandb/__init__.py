"""What ``WandbPlugin`` is made of: settings, the guard around every use of wandb, and trackers.

::

    worker: trackers ── calls ── run ── guard ── opening ── wandb
    driver: scheduler, trackers ── background, a thread ── run ── guard ── wandb
"""
