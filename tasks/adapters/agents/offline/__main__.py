"""``python -m offline`` in the workspace."""

import sys

from .session import main

sys.exit(main())
