"""What ``python -m amltk`` does: the same as the command ``amltk``."""

import sys

from amltk.cli import main

sys.exit(main())
