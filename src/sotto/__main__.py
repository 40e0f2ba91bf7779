"""`python -m sotto` is `sotto`."""

import sys

from sotto.cli import main

sys.exit(main())
