"""`python -m hrnet.cli`."""

import sys

from hrnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
