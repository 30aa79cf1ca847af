"""The CPU backend: a described vocoder as one native sequence, run window by window."""
