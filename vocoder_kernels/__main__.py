"""``python -m vocoder_kernels``: the same as ``vocoder-kernels``."""

import sys

from .cli import main

sys.exit(main())
