"""When a call is not ours to speed up: the original forward runs, for a reason that is counted."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as module_globals
from torch.utils._device import DeviceContext

from ..backends import BACKENDS

TRAINING = "the module is in training mode"
AUTOGRAD = "gradients are needed; call under torch.no_grad() or torch.inference_mode()"
TRACING = "the call is being traced or transformed"
AUTOCAST = "autocast is on, which changes the dtype of single layers"
GLOBAL_HOOKS = "global forward hooks are registered, which fused kernels would skip"
CAPTURING = "a CUDA graph is being captured around the call"
NOT_PLAIN = "the input is not a plain strided tensor"
EMPTY = "the input has no rows or no frames"
ELSEWHERE = "an input is not on the model's device"
TIME_VARYING = "the condition g varies over time"
DISABLED = "disabled by option"


def of_module(module: nn.Module) -> str:
    """Why this module may not be sped up just now, whatever the input; empty if it may."""
    if module.training:
        return TRAINING
    return GLOBAL_HOOKS if _global_hooks() else ""


def of_call(module: nn.Module, x: torch.Tensor, g: torch.Tensor | None) -> str:
    """Why this call has to run the original forward; empty if it need not. Takes microseconds."""
    inputs = (x,) if g is None else (x, g)
    if _is_traced() or not all(type(t) in (torch.Tensor, nn.Parameter) for t in inputs):
        return TRACING
    if any(t.layout != torch.strided or t.is_neg() or t.is_quantized for t in inputs):
        return NOT_PLAIN
    why = of_module(module)
    if why:
        return why
    if _needs_grad(module, inputs):
        return AUTOGRAD
    if x.device.type in BACKENDS and torch.is_autocast_enabled(x.device.type):
        return AUTOCAST
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        return CAPTURING
    if x.numel() == 0 or (g is not None and g.numel() == 0):
        return EMPTY
    if g is not None and g.dim() > 1 and g.shape[-1] > 1:
        return TIME_VARYING
    return ""


def _global_hooks() -> bool:
    return bool(module_globals._global_forward_hooks or module_globals._global_forward_pre_hooks)


def _is_traced() -> bool:
    return (
        torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or (torch._C._len_torch_function_stack() > 0 and _foreign_function_mode())
    )


def _foreign_function_mode() -> bool:
    """A function mode other than ``torch.set_default_device``'s, which changes nothing here."""
    modes = torch.overrides._get_current_function_mode_stack()
    return not all(isinstance(mode, DeviceContext) for mode in modes)


def _needs_grad(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> bool:
    if forward_ad._current_level >= 0:
        return True
    if not torch.is_grad_enabled():
        return False
    return any(t.requires_grad for t in inputs) or any(p.requires_grad for p in module.parameters())
