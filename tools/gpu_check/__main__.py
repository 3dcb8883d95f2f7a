"""`python -m tools.gpu_check`, from a checkout."""

import sys

from .gpu_check import main

sys.exit(main())
