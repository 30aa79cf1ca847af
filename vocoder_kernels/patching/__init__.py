"""Rebinding the forward of loaded vocoders, and everything that can happen to them afterwards."""

from .api import compile, patch, patched, report, unpatch, verify
from .reports import ErrorRow, ErrorTable, ModuleReport, PatchReport

__all__ = [
    "ErrorRow",
    "ErrorTable",
    "ModuleReport",
    "PatchReport",
    "compile",
    "patch",
    "patched",
    "report",
    "unpatch",
    "verify",
]
