"""Windows, memory plan and engine: what CPU and GPU share at run time."""
