"""When the original forward has to run."""

from __future__ import annotations

import warnings

import pytest
import torch
from patching.conftest import Case
from reference import BIGVGAN, HIFIGAN
from torch.utils._python_dispatch import TorchDispatchMode

from vocoder_kernels import patch, report


def test_training_mode(case, backend):
    patch(case.model)
    case.model.train()
    case.assert_original("training mode")
    assert report(case.model).modules[0].status == "fell back"
    case.model.eval()
    case.assert_ours()


def test_gradients_of_parameters(case, backend):
    patch(case.model)
    out = case.model(*case.args)
    assert out.requires_grad and case.accelerated() == 0
    out.square().mean().backward()
    assert case.model.conv_post.bias is None or case.model.conv_post.bias.grad is not None
    assert any("gradients" in why for why in case.state.originals)


def test_gradients_of_the_input(hifigan, backend):
    hifigan.model.requires_grad_(False)
    patch(hifigan.model)
    x = hifigan.x.clone().requires_grad_()
    hifigan.model(x, hifigan.g).sum().backward()
    assert x.grad is not None and hifigan.accelerated() == 0
    out = hifigan.model(hifigan.x, hifigan.g)
    assert hifigan.accelerated() == 1 and not out.requires_grad
    with torch.no_grad():
        assert not hifigan.model(x, hifigan.g).requires_grad
    assert hifigan.accelerated() == 2


def test_forward_mode_gradients(hifigan, backend):
    patch(hifigan.model)
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(hifigan.x, torch.ones_like(hifigan.x))
        out = hifigan.model(x, hifigan.g)
        assert torch.autograd.forward_ad.unpack_dual(out).tangent is not None


def test_jit_trace(case, backend):
    patch(case.model)
    with torch.no_grad():
        traced = torch.jit.trace(case.model, case.args, check_trace=False)
        assert case.accelerated() == 0
        assert torch.allclose(traced(*case.args), case.original(), atol=1e-6)
        assert "conv" in str(traced.graph) or "CallMethod" in str(traced.graph)
        with warnings.catch_warnings():
            # The check compares with a plain call, which is ours.
            warnings.simplefilter("error", torch.jit.TracerWarning)
            torch.jit.trace(case.model, case.args)
    case.assert_ours()


SCRIPTABLE = '''
import torch
from torch import nn
from torch.nn import functional as F

class Generator(nn.Module):
    """A vocoder of one stage that TorchScript can compile."""

    def __init__(self):
        super().__init__()
        self.conv_pre = nn.Conv1d(6, 8, 7, padding=3)
        self.ups = nn.ModuleList([nn.ConvTranspose1d(8, 4, 4, 2, padding=1)])
        self.resblocks = nn.ModuleList([Block()])
        self.conv_post = nn.Conv1d(4, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_pre(x)
        for up in self.ups:
            x = up(F.leaky_relu(x, 0.1))
        for block in self.resblocks:
            x = block(x)
        return torch.tanh(self.conv_post(F.leaky_relu(x)))

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(4, 4, 3, padding=1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = conv(F.leaky_relu(x, 0.1)) + x
        return x
'''


@pytest.fixture
def scriptable(tmp_path, monkeypatch):
    (tmp_path / "scriptable_vocoder.py").write_text(SCRIPTABLE)
    monkeypatch.syspath_prepend(tmp_path)
    import scriptable_vocoder

    return scriptable_vocoder.Generator().eval()


def test_jit_script(scriptable, backend):
    x = torch.randn(1, 6, 20)
    assert patch(scriptable)
    with torch.no_grad():
        for model in (scriptable, torch.nn.Sequential(scriptable)):
            scripted = torch.jit.script(model)
            assert torch.equal(scripted(x), type(scriptable).forward(scriptable, x))
        before = report(scriptable).modules[0].statistics.get("accelerated", 0)
        scriptable(x)
    assert report(scriptable).modules[0].statistics["accelerated"] == before + 1


SMALL = {
    "upsample_rates": (2,),
    "upsample_kernel_sizes": (4,),
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1,),),
}


@pytest.mark.parametrize("config", [HIFIGAN, BIGVGAN], ids=["hifigan", "bigvgan"])
def test_compile_and_export(backend, config):
    case = Case({**config, **SMALL})
    patch(case.model)
    with torch.no_grad():
        compiled = torch.compile(case.model, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(*case.args), case.original(), atol=1e-6)
        for strict in (False, True):
            exported = torch.export.export(case.model, case.args, strict=strict).module()
            assert torch.allclose(exported(*case.args), case.original(), atol=1e-6)
    assert case.accelerated() == 0
    case.assert_ours()
    assert patch(compiled).modules[0].path == "_orig_mod"


def test_symbolic_trace_of_a_parent(scriptable, backend):
    patch(scriptable)
    x = torch.randn(1, 6, 20)
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(scriptable))
    with torch.no_grad():
        assert torch.equal(traced(x), type(scriptable).forward(scriptable, x))


def test_function_transforms(hifigan, backend):
    patch(hifigan.model)
    x = torch.randn(3, 1, *hifigan.x.shape[1:])
    with torch.no_grad():
        out = torch.func.vmap(lambda row: hifigan.model(row, hifigan.g))(x)
        assert torch.allclose(out[1], hifigan.original(x[1], hifigan.g), atol=1e-5)
        parameters = {n: p.detach() * 0 for n, p in hifigan.model.named_parameters()}
        zero = torch.func.functional_call(hifigan.model, parameters, hifigan.args)
    assert not zero.any()
    hifigan.assert_ours()


def test_dispatch_modes_see_every_operation(hifigan, backend):
    class Count(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
            Count.seen += "convolution" in str(func)
            return func(*args, **(kwargs or {}))

    patch(hifigan.model)
    with Count():
        hifigan.assert_original("traced")
    assert Count.seen > 10


def test_fake_tensors(hifigan, backend):
    from torch._subclasses.fake_tensor import FakeTensorMode

    patch(hifigan.model)
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x, g = mode.from_tensor(hifigan.x), mode.from_tensor(hifigan.g)
        out = hifigan.model(x, g)
    assert tuple(out.shape) == tuple(hifigan.original().shape) and hifigan.accelerated() == 0


def test_default_device_mode_changes_nothing(hifigan, backend):
    patch(hifigan.model)
    with torch.device("cpu"):
        hifigan.assert_ours()


def test_tensor_subclass(hifigan, backend):
    class Marked(torch.Tensor):
        pass

    patch(hifigan.model)
    out = hifigan(hifigan.x.as_subclass(Marked), hifigan.g)
    assert type(out) is Marked and hifigan.accelerated() == 0


def test_autocast(case, backend):
    patch(case.model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        case.assert_original("autocast")
        assert case().dtype == torch.bfloat16
    case.assert_ours()


def test_global_hooks(hifigan, backend):
    seen = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: seen.append(1))
    try:
        outcome = patch(hifigan.model)
        assert not outcome and not seen and "global forward hooks" in outcome.modules[0].why
        hifigan.assert_original("global forward hooks")
    finally:
        handle.remove()
    hifigan.assert_ours()


def test_negative_views(hifigan, backend):
    patch(hifigan.model)
    x = torch._neg_view(hifigan.x)
    assert x.is_neg()
    hifigan.assert_original("plain strided tensor", x, hifigan.g)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_audio_is_fresh_and_writable(case, backend, mode):
    patch(case.model)
    with mode():
        first = case.model(*case.args)
        kept = first.clone()
        second = case.model(*case.args)
        first /= first.abs().max()
        assert torch.equal(second, kept)
    second /= second.abs().max()
    assert first.data_ptr() != second.data_ptr() and not first.requires_grad
    assert case.accelerated() == 2


def test_modes_alternate_on_one_vocoder(case, backend):
    patch(case.model)
    with torch.inference_mode():
        x = case.x * 1
        first = case.model(x, *case.args[1:])
        case.model.load_state_dict({k: v * 1 for k, v in case.model.state_dict().items()})
        second = case.model(x, *case.args[1:])
    with torch.no_grad():
        third = case.model(x, *case.args[1:])
    assert torch.equal(first, second) and torch.equal(first, third)
    assert case.accelerated() == 3
