"""Tables and a chart of service latencies, of one run or of two side by side."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

Run = list[dict]


def load(path: Path) -> Run:
    """Samples of a JSON-lines file. Raises ``ValueError`` naming file and line."""
    samples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            samples.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON: {error}") from error
    if not samples:
        raise ValueError(f"{path}: holds no samples")
    return samples


def quantile(values: list[float], q: float) -> float:
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summarise(run: Run) -> dict[tuple[str, int], dict[str, float]]:
    """Per text and concurrency: p50, p95, first audio, audio seconds per second, real-time
    factor."""
    groups: dict[tuple[str, int], Run] = {}
    for sample in run:
        groups.setdefault((sample["text"], sample["concurrency"]), []).append(sample)
    out = {}
    for key, samples in groups.items():
        total = [s["total_s"] for s in samples]
        begin = min(s["started_s"] for s in samples)
        end = max(s["started_s"] + s["total_s"] for s in samples)
        out[key] = {
            "p50_s": statistics.median(total),
            "p95_s": quantile(total, 0.95),
            "first_s": statistics.median(s["first_audio_s"] for s in samples),
            "throughput": sum(s["audio_s"] for s in samples) / (end - begin),
            "rtf": statistics.median(s["total_s"] / max(s["audio_s"], 1e-9) for s in samples),
        }
    return out


def table(before: Run, after: Run | None = None) -> str:
    """One row per text and concurrency; with two runs also the ratio of the medians."""
    lines = []
    columns = f"{'p50 s':>8} {'p95 s':>8} {'first s':>8} {'audio s/s':>10} {'RTF':>7}"
    runs = [before] if after is None else [before, after]
    summaries = [summarise(run) for run in runs]
    head = f"{'text':<8} {'at once':>7}"
    for run in runs:
        head += f" | {run[0]['label'][:12]:<12} {columns}"
    lines.append(head + ("" if after is None else " | p50 ratio"))
    for key in summaries[0]:
        if any(key not in summary for summary in summaries):
            continue
        row = f"{key[0]:<8} {key[1]:>7}"
        for s in (summary[key] for summary in summaries):
            row += (
                f" | {'':<12} {s['p50_s']:>8.3f} {s['p95_s']:>8.3f} {s['first_s']:>8.3f} "
                f"{s['throughput']:>10.2f} {s['rtf']:>7.3f}"
            )
        if after is not None:
            row += f" | {summaries[0][key]['p50_s'] / summaries[1][key]['p50_s']:>8.2f}x"
        lines.append(row)
    return "\n".join(lines)


def plot(path: Path, *runs: Run) -> None:
    """Bars of the median latency per text and concurrency, p95 as a whisker, to a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    summaries = [summarise(run) for run in runs]
    keys = [key for key in summaries[0] if all(key in s for s in summaries)]
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    width = 0.8 / len(runs)
    for i, (run, summary) in enumerate(zip(runs, summaries)):
        medians = [summary[key]["p50_s"] for key in keys]
        above = [summary[key]["p95_s"] - summary[key]["p50_s"] for key in keys]
        whiskers = [[0] * len(keys), above]
        places = [n + (i - (len(runs) - 1) / 2) * width for n in range(len(keys))]
        axes.bar(places, medians, width * 0.95, yerr=whiskers, capsize=3, label=run[0]["label"])
    axes.set_xticks(range(len(keys)), [f"{text}\n{level} at once" for text, level in keys])
    axes.set_ylabel("seconds to the last sample (median, p95)")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
