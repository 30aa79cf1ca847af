#!/usr/bin/env python3
"""Patched vocoders against ONNX Runtime and OpenVINO (pip install onnx onnxruntime openvino).

python benchmarks/peers.py --threads 2
"""

import sys

from vocoder_kernels.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "--rows", "peers", "--models", "v2,v4", *sys.argv[1:]]))
