"""Turning snapshots into text, tables and a live view; needs the extra ``display``."""
