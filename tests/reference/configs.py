"""Small vocoder configurations: one of every kind, and random odd ones."""

from __future__ import annotations

from hypothesis import strategies as st

HIFIGAN = {
    "initial_channel": 12,
    "resblock": "1",
    "resblock_kernel_sizes": (3, 7, 11),
    "resblock_dilation_sizes": ((1, 3, 5),) * 3,
    "upsample_rates": (4, 3, 2),
    "upsample_initial_channel": 48,
    "upsample_kernel_sizes": (8, 7, 4),
    "gin_channels": 10,
    "is_bias": False,
}
BIGVGAN = {
    "num_mels": 10,
    "resblock": "1",
    "resblock_kernel_sizes": (3, 7),
    "resblock_dilation_sizes": ((1, 3, 5),) * 2,
    "upsample_rates": (4, 2),
    "upsample_initial_channel": 32,
    "upsample_kernel_sizes": (8, 4),
    "activation": "snakebeta",
    "snake_logscale": True,
    "use_bias_at_final": False,
    "use_tanh_at_final": False,
}

CONFIGS = {
    "hifigan": HIFIGAN,
    "hifigan-plain": {**HIFIGAN, "gin_channels": 0, "is_bias": True},
    "hifigan-resblock2": {
        **HIFIGAN,
        "resblock": "2",
        "resblock_kernel_sizes": (3, 5),
        "resblock_dilation_sizes": ((1, 2), (2, 6)),
    },
    "hifigan-odd-upsampling": {
        **HIFIGAN,
        "gin_channels": 0,
        "upsample_rates": (5, 4, 2),
        "upsample_kernel_sizes": (10, 7, 5),
    },
    "bigvgan": BIGVGAN,
    "bigvgan-snake-linear-tanh": {
        **BIGVGAN,
        "activation": "snake",
        "snake_logscale": False,
        "use_bias_at_final": True,
        "use_tanh_at_final": True,
    },
    "bigvgan-resblock2": {**BIGVGAN, "resblock": "2", "activation": "snake"},
    "bigvgan-linear-beta": {**BIGVGAN, "snake_logscale": False},
}

_odd_kernels = st.sampled_from([1, 3, 5, 7, 9, 11, 13])


@st.composite
def configs(draw: st.DrawFn, family: str | None = None) -> dict:
    """Any vocoder that can be described, with few channels; ``K - stride`` is often odd."""
    family = family or draw(st.sampled_from(["hifigan", "bigvgan"]))
    stages = draw(st.integers(1, 3))
    rates = tuple(draw(st.integers(1, 6)) for _ in range(stages))
    kernels = tuple(rate + draw(st.integers(0, 7)) for rate in rates)
    branches = draw(st.integers(1, 3))
    units = draw(st.integers(1, 3))
    channels = draw(st.integers(1, 5)) * 2**stages
    config = {
        "resblock": draw(st.sampled_from(["1", "2"])),
        "resblock_kernel_sizes": tuple(draw(_odd_kernels) for _ in range(branches)),
        "resblock_dilation_sizes": tuple(
            tuple(draw(st.integers(1, 5)) for _ in range(units)) for _ in range(branches)
        ),
        "upsample_rates": rates,
        "upsample_initial_channel": channels,
        "upsample_kernel_sizes": kernels,
    }
    if family == "hifigan":
        return {
            **config,
            "initial_channel": draw(st.integers(1, 20)),
            "gin_channels": draw(st.sampled_from([0, 3])),
            "is_bias": draw(st.booleans()),
        }
    return {
        **config,
        "num_mels": draw(st.integers(1, 20)),
        "activation": draw(st.sampled_from(["snake", "snakebeta"])),
        "snake_logscale": draw(st.booleans()),
        "use_bias_at_final": draw(st.booleans()),
        "use_tanh_at_final": draw(st.booleans()),
    }
