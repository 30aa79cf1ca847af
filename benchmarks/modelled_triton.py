#!/usr/bin/env python3
"""Modelled time of the Triton kernels on GPUs that are not here, and its share of the tensor floor.

    python benchmarks/modelled_triton.py --ops conv,stages

Kernels are compiled for sm_80, sampled CTAs run on the emulator, and its counters give a time.
Nothing here is measured on a GPU: compare versions of a kernel, quote no figure as measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "compile"))
FRAMES = (30, 100, 500)
DEVICES = ("A100", "RTX 4090", "RTX 3060")
F16, F32 = torch.float16, torch.float32
K, DILATIONS = (11, 7, 3), (3, 3, 3)


def find_model() -> Any:
    """The emulator's model of time, or an exit that says what is missing."""
    folder = Path(os.environ.get("VOCODER_KERNELS_GPUSIM", ""))
    if not (folder / "model" / "__init__.py").is_file():
        sys.exit(
            f"no GPU emulator at {folder.absolute()}: set VOCODER_KERNELS_GPUSIM to its folder"
        )
    try:
        import triton  # noqa: F401
    except ImportError:
        sys.exit("Triton is not installed: pip install triton")
    sys.path.append(str(folder.parent))
    from gpusim import model

    return model


def operations() -> dict[str, dict[str, Any]]:
    """Descriptions by group and name, in fp16."""
    from layer_shapes import AliasFreeDesc, HeadDesc, ResidualConvDesc, UpsampleDesc

    scales = {
        ("v4", 256): 10,
        ("v4", 128): 60,
        ("v3", 768): 4,
        ("v3", 384): 16,
        ("v3", 192): 32,
        ("v3", 96): 64,
    }

    def conv(C: int, scale: int, **options: Any) -> Any:
        return ResidualConvDesc(C, C, dtype=F16, scale=scale, **options)

    convs, stages, snakes = {}, {}, {}
    for (version, C), scale in scales.items():
        name = f"{version} C={C}"
        snake = version == "v3"
        slope = 1.0 if snake else 0.1
        second = {"dilation": (1, 1, 1), "residual": True, "residual_slope": None if snake else 0.1}
        convs[f"{name} k=7"] = conv(C, scale, K=(7,), dilation=(3,), slope=slope)
        stages[f"{name} first"] = conv(C, scale, K=K, dilation=DILATIONS, slope=slope)
        stages[f"{name} second"] = conv(
            C, scale, K=K, slope=slope, stream=snake, activated=not snake, **second
        )
        stages[f"{name} last"] = conv(C, scale, K=K, slope=slope, mean=True, **second)
        if version == "v3":
            snakes[f"{name} snake"] = AliasFreeDesc(C, 3, F16, F16, scale)
    ups = {
        "v4 up 512": UpsampleDesc(512, 256, 20, 10, 5, F16, activated=True, slope_out=0.1),
        "v4 up 256": UpsampleDesc(256, 128, 12, 6, 3, F16, slope_out=0.1, activated=True, scale=10),
        "v4 up 128": UpsampleDesc(128, 64, 4, 2, 1, F16, slope_out=0.1, activated=True, scale=60),
        "v4 up 64": UpsampleDesc(64, 32, 4, 2, 1, F16, 3, 0.1, scale=120),
        "v4 up 32": UpsampleDesc(32, 16, 4, 2, 1, F16, 3, 0.1, scale=240),
        "v2 up 256": UpsampleDesc(256, 128, 16, 8, 4, F16, slope_out=0.1, activated=True, scale=10),
        "v3 up 1536": UpsampleDesc(1536, 768, 8, 4, 2, F16),
        "v3 up 768": UpsampleDesc(768, 384, 8, 4, 2, F16, scale=4),
        "v3 up 384": UpsampleDesc(384, 192, 4, 2, 1, F16, scale=16),
        "v3 up 192": UpsampleDesc(192, 96, 4, 2, 1, F16, scale=32),
    }
    heads = {
        "v4 head": HeadDesc(100, 512, 7, F16, slope=0.1),
        "v2 head": HeadDesc(192, 512, 7, F16, cond=True, slope=0.1),
        "v3 head": HeadDesc(100, 1536, 7, F16),
    }
    return {"conv": convs, "stages": stages, "up": ups, "head": heads, "snake": snakes}


class Modeller:
    """Models launches; a kernel is compiled and emulated once per configuration."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.profiles: dict[Any, Any] = {}

    def target(self, device: str) -> Any:
        from vocoder_kernels.ops.support import Target

        d = self.model.device(device)
        return Target("cuda", d.arch, d.sms, d.smem_cta)

    def config(self, desc: Any, frames: int, device: str) -> Any:
        from layer_shapes import OPS, operation

        choose = operation(OPS[type(desc)]).choose_config
        return choose(desc, 1, frames * desc.scale, self.target(device))

    def estimate(self, desc: Any, frames: int, device: str, config: Any = None) -> Any:
        """The model's estimate of one launch for ``frames`` frames whose inputs are in L2 as far as
        they fit."""
        config = config or self.config(desc, frames, device)
        profile = self.profile(desc, config, 90 if self.model.device(device).arch >= 90 else 80)
        grid, _, named = self._recorded(desc, frames, config, "meta")
        launch = self.model.Launch(
            profile,
            scale=grid / profile.ctas,
            sizes={name: tensor.nbytes for name, tensor in named.items()},
            flops=desc.flops(frames * desc.scale) if hasattr(desc, "flops") else 0.0,
        )
        return self.model.sequence([launch], device, "graph").rows[0]

    def ctas(self, desc: Any, frames: int, config: Any) -> int:
        return self._recorded(desc, frames, config, "meta")[0]

    def profile(self, desc: Any, config: Any, arch: int) -> Any:
        """Counters of a few CTAs, one of each branch."""
        desc = replace(desc, scale=1, extra=0)
        key = desc, config, arch
        if key not in self.profiles:
            kernel, branches = self._kernel(desc)[2], getattr(desc, "outputs", 1)
            _, (grid, args, kwargs), _ = self._recorded(desc, 400, config, "cpu")
            self.profiles[key] = self.model.triton_profile(
                kernel, grid, *args, arch=arch, sample=branches, **kwargs
            )
        return self.profiles[key]

    def _kernel(self, desc: Any) -> tuple[Any, str, Any]:
        from layer_shapes import OPS, operation

        op = OPS[type(desc)]
        module, name = operation(op), f"{op}_kernel"
        return module, name, getattr(module, name)

    def _recorded(self, desc: Any, frames: int, config: Any, device: str) -> tuple[Any, Any, Any]:
        """CTAs of the launch, the launch itself and its tensors by the profile's names."""
        from layer_shapes import launch

        module, name, kernel = self._kernel(desc)
        record = _Record()
        with mock.patch.object(module, name, record):
            launch(desc, 1, frames, self.target("A100"), device, config)
        grid, args, kwargs = record.launch
        return grid[0], record.launch, dict(_named(kernel.arg_names, args))


class _Record:
    """Stands for a kernel and keeps what it was launched with."""

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def keep(*args: Any, **kwargs: Any) -> None:
            self.launch = (grid, args, kwargs)

        return keep


def _named(names: list[str], args: tuple[Any, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in zip(names, args):
        parts = value if isinstance(value, tuple) else (value,)
        for i, part in enumerate(parts):
            if isinstance(part, torch.Tensor):
                yield (f"{name}[{i}]" if isinstance(value, tuple) else name), part


def row(name: str, frames: int, device: str, config: Any, e: Any) -> dict[str, Any]:
    return {
        "op": name,
        "frames": frames,
        "device": device,
        "modelled_us": round(e.us, 2),
        "tensor_floor_us": round(e.flops_floor_us, 2),
        "tensor_share": round(e.flops_floor_us / e.us, 3),
        "bytes_floor_us": round(e.bytes_floor_us, 2),
        "bound": e.bound,
        "registers": e.info["registers"],
        "ctas_per_sm": e.info["occupancy"],
        "config": str(tuple(vars(config).values())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", default="conv,stages,up,head,snake", help="groups, by comma")
    parser.add_argument("--only", default="", help="operations whose name contains this")
    parser.add_argument("--frames", default=",".join(map(str, FRAMES)))
    parser.add_argument("--devices", default=",".join(DEVICES))
    parser.add_argument("--json", help="append one line per figure to this file")
    options = parser.parse_args()
    modeller = Modeller(find_model())
    groups = operations()
    print("modelled, not measured; microseconds of one launch, share of the tensor floor\n")
    for group in options.ops.split(","):
        for name, desc in groups[group].items():
            if options.only not in name:
                continue
            for device in options.devices.split(","):
                cells = []
                for frames in map(int, options.frames.split(",")):
                    config = modeller.config(desc, frames, device)
                    r = row(name, frames, device, config, modeller.estimate(desc, frames, device))
                    cells.append("{modelled_us:8.1f} {tensor_share:4.0%} {config:>22}".format(**r))
                    if options.json:
                        with open(options.json, "a") as file:
                            file.write(json.dumps(r) + "\n")
                print(f"{name:18} {device:9} {' | '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
