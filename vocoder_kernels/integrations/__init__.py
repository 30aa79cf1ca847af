"""Glue to the programs that load vocoders. Nothing here is imported unless asked for."""
