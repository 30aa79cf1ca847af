"""The static device memory of an executable, and its order among streams."""

from __future__ import annotations

from collections.abc import Sequence

import torch

STAGES = 16


class StaticPool:
    """One live tensor that all graphs share: it survives ``empty_cache`` and moves only to grow.

    Work on any stream is ordered: `enter` waits for what `leave` recorded last.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._bytes: torch.Tensor | None = None
        self._done = torch.cuda.Event()
        self._streams: set[torch.cuda.Stream] = set()

    @property
    def nbytes(self) -> int:
        return 0 if self._bytes is None else self._bytes.nbytes

    def grow(self, nbytes: int) -> None:
        """Replace the memory. Raises ``torch.cuda.OutOfMemoryError``, and then there is none."""
        self.release()
        self._bytes = torch.empty(nbytes, dtype=torch.uint8, device=self.device)

    def view(self, offset: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Bytes from ``offset`` on as a dense tensor."""
        assert self._bytes is not None, "the pool has been allocated"
        count = dtype.itemsize
        for size in shape:
            count *= size
        return self._bytes[offset : offset + count].view(dtype).view(*shape)

    def enter(self) -> None:
        """The current stream waits for all earlier work on the pool."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(self._done)
        self._streams.add(stream)

    def leave(self) -> None:
        self._done.record(torch.cuda.current_stream(self.device))

    def release(self, others: Sequence[torch.Tensor] = ()) -> None:
        """Give the memory back, and let ``others`` be given back, only when the streams that used
        them are done with them."""
        used = [*others] if self._bytes is None else [*others, self._bytes]
        for stream in self._streams:
            for tensor in used:
                tensor.record_stream(stream)
        self._bytes = None
        if others:
            self._streams.clear()


class Staging:
    """Small integers to the device without waiting for it: pinned memory in a ring."""

    def __init__(self, shape: Sequence[int]) -> None:
        self._slots = torch.empty(STAGES, *shape, dtype=torch.int32, pin_memory=True)
        self._sent = [torch.cuda.Event() for _ in range(STAGES)]
        self._next = 0

    def send(self, values: list[list[int]], target: torch.Tensor) -> None:
        """Copy ``values`` to ``target`` on the current stream; waits only if that lags `STAGES`
        copies behind."""
        slot, sent = self._slots[self._next], self._sent[self._next]
        self._next = (self._next + 1) % STAGES
        if not sent.query():
            sent.synchronize()
        rows = slot[: len(values)]
        rows.copy_(torch.tensor(values, dtype=torch.int32))
        target.copy_(rows, non_blocking=True)
        sent.record()
