#!/usr/bin/env python3
"""Whole vocoders, eager against patched: ``vocoder-kernels bench`` without the peers.

python benchmarks/models.py --threads 2
"""

import sys

from vocoder_kernels.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "--rows", "speed,small,first-call,memory", *sys.argv[1:]]))
