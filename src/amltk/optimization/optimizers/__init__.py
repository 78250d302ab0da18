"""The optimizers that come with amltk, one file each."""
