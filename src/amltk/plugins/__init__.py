"""Ready-made behaviours for a task, one file each."""

from __future__ import annotations

from amltk.plugins.limiter import CallLimiter

__all__ = ["CallLimiter"]
