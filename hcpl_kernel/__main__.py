"""`python -m hcpl_kernel` is the `hcpl` command."""

import sys

from hcpl_kernel.cli import main

if __name__ == "__main__":
    sys.exit(main())
