"""A correction of the emulator's schedules, which its times of busy multiprocessors come from.

The emulator plays a few rounds of each loop and extends them. It takes a loop's rounds from the
median of its instructions: where most instructions of a loop are in branches that are rarely taken
(the change of input chunks in csrc/cuda/conv_kernel.cuh), the loop was played for a tenth of its
products, and the time fell below that of the matrix units alone.
"""

from __future__ import annotations

from typing import Any


def correct_schedules(model: Any) -> None:
    """Rounds from the loop's first instruction, and time for instructions that no round contains
    in proportion."""
    from gpusim.model import schedule

    class Kernel(schedule.Kernel):
        def _trips(self) -> None:
            for k, (first, *_) in enumerate(self.loops):
                outer = [q for q in self.loops[:k] if q[0] <= first <= q[1]]
                total = self.freq[first]
                entries = max(1e-9, outer[-1][3] if outer else 1.0)
                self.loops[k][2:] = [total / entries, total]

        def cycles(self, ctas: int) -> float:
            return super().cycles(ctas) * sum(self.freq) / self._played()

        def _played(self) -> float:
            """Instructions per warp that the rounds played stand for, extended like their time."""
            keep, count = schedule.KEEP, len(self.loops)
            base = len(self._trace([keep] * count))
            total = float(base)
            for k, (first, last, trips, all_rounds) in enumerate(self.loops):
                if trips <= keep + 0.5:
                    continue
                rounds = [keep] * count
                rounds[k] = min(keep + schedule.EXTRA, round(trips))
                outer = [q for q in self.loops[:k] if q[0] <= first and last <= q[1]]
                played = rounds[k] - keep
                for q in outer:
                    played *= min(keep, max(1, round(q[2])))
                extra = len(self._trace(rounds)) - base
                total += max(0, extra) / played * (all_rounds / trips) * (trips - keep)
            return total

    model.model.Kernel = Kernel
