"""``python -m fabric_nb.cli`` is ``fabric-nb``."""

import sys

from fabric_nb.cli import main

sys.exit(main())
