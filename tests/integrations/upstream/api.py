"""Stands in for upstream's ``api.py`` and web UI: vocoders in globals of the script, many speakers
that share one, weights loaded after ``.half().to()`` or ``.to()``."""

import os
import sys

now_dir = os.path.dirname(os.path.abspath(__file__))
sys.path.append(f"{now_dir}/GPT_SoVITS")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from BigVGAN import bigvgan  # noqa: E402
from module.models import CODES, SynthesizerTrn, SynthesizerTrnV3  # noqa: E402

torch.manual_seed(0)
device, is_half = "cpu", False
bigvgan_model = None
speaker_list = {}


class Sovits:
    def __init__(self, vq_model):
        self.vq_model = vq_model


class Speaker:
    def __init__(self, name, sovits):
        self.name = name
        self.sovits = sovits


def init_bigvgan():
    global bigvgan_model
    bigvgan_model = bigvgan.BigVGAN.from_pretrained("models", use_cuda_kernel=False)
    bigvgan_model.remove_weight_norm()
    bigvgan_model = bigvgan_model.eval()
    bigvgan_model = bigvgan_model.half().to(device) if is_half else bigvgan_model.to(device)


def get_sovits_weights(version, seed):
    if version == "v3":
        vq_model = SynthesizerTrnV3()
        if bigvgan_model is None:
            init_bigvgan()
    else:
        vq_model = SynthesizerTrn()
    vq_model = vq_model.half().to(device) if is_half else vq_model.to(device)
    vq_model.eval()
    torch.manual_seed(seed)
    state = {k: v * (1 + 0.1 * seed) for k, v in vq_model.state_dict().items()}
    vq_model.load_state_dict(state, strict=False)
    return Sovits(vq_model)


def get_tts_wav(name):
    vq_model = speaker_list[name].sovits.vq_model
    codes = (torch.arange(40) * 7 % CODES)[None, None]
    if isinstance(vq_model, SynthesizerTrnV3):
        with torch.inference_mode():
            audio = bigvgan_model(vq_model.mel(codes))[0][0]
    else:
        audio = vq_model.decode(codes, None, torch.full((1, 4), 0.5))[0][0]
    max_audio = np.abs(audio.cpu().numpy()).max()
    if max_audio > 1:
        audio /= max_audio
    return audio.detach().cpu().numpy()


speaker_list["default"] = Speaker("default", get_sovits_weights("v2", 1))
speaker_list["ann"] = Speaker("ann", get_sovits_weights("v3", 2))
speaker_list["bob"] = Speaker("bob", get_sovits_weights("v3", 3))

if __name__ == "__main__":
    before = {name: get_tts_wav(name) for name in speaker_list}
    speaker_list["default"] = Speaker("default", get_sovits_weights("v2", 4))
    after = {f"{name} again": get_tts_wav(name) for name in speaker_list}
    np.savez(sys.argv[1], **before, **after)
