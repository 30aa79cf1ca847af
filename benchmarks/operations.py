#!/usr/bin/env python3
"""Single layers of the CPU core against PyTorch's.

python benchmarks/operations.py --models v4 --threads 2
"""

import sys

from vocoder_kernels.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "--operations", *sys.argv[1:]]))
