"""Stands in for upstream's ``TTS_infer_pack/TTS.py`` in its order of events: who loads, moves,
deletes and reloads a vocoder, and what is done with the audio it returns."""

import gc
import os
import traceback
from copy import deepcopy

import numpy as np
import torch
import yaml
from BigVGAN.bigvgan import BigVGAN
from module.models import CODES, Generator, SynthesizerTrn, SynthesizerTrnV3

VERSIONS = ("v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4")


class TTS_Config:
    default_configs = {v: {"device": "cpu", "is_half": False, "version": v} for v in VERSIONS}

    def __init__(self, configs_path):
        self.configs_path = configs_path
        with open(configs_path, encoding="utf-8") as file:
            loaded = yaml.load(file, Loader=yaml.FullLoader)
        self.default_configs = {**deepcopy(self.default_configs), **loaded}
        custom = self.default_configs.get("custom", self.default_configs["v2"])
        self.device = torch.device(custom["device"])
        self.is_half = custom["is_half"]
        self.version = custom["version"]
        self.vits_weights_path = custom["vits_weights_path"]
        self.use_vocoder = False
        self.sampling_rate = 32000

    def save_configs(self):
        configs = deepcopy(self.default_configs)
        configs["custom"] = {
            "device": str(self.device),
            "is_half": self.is_half,
            "version": self.version,
            "vits_weights_path": self.vits_weights_path,
        }
        with open(self.configs_path, "w", encoding="utf-8") as file:
            yaml.dump(configs, file)


class TextPreprocessor:
    def preprocess(self, text, language):
        phones, _ = self.segment_and_extract_feature_for_text(text)
        return phones

    def segment_and_extract_feature_for_text(self, text):
        return torch.tensor([ord(c) % CODES for c in text]), None


class Text2SemanticDecoder(torch.nn.Module):
    """``infer_panel`` is set to the way a request wants, as upstream does."""

    def infer_panel_naive(self, phones, chunk_length=16):
        yield from phones.split(chunk_length)

    def infer_panel_naive_batched(self, phones):
        return torch.cat(list(self.infer_panel_naive(phones)))

    def infer_panel_batch_infer(self, phones):
        return phones.clone()


class Text2SemanticLightningModule(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Text2SemanticDecoder()


class TTS:
    def __init__(self, configs):
        self.configs = configs
        self.vits_model = None
        self.t2s_model = Text2SemanticLightningModule()
        self.vocoder = None
        self.vocoder_configs = {"sr": None}
        self._init_models()
        self.text_preprocessor = TextPreprocessor()
        self.precision = torch.float16 if configs.is_half else torch.float32

    def _init_models(self):
        self.init_vits_weights(self.configs.vits_weights_path)

    def init_vits_weights(self, weights_path):
        self.configs.vits_weights_path = weights_path
        loaded = torch.load(weights_path, weights_only=True)
        version = loaded["version"]
        self.configs.version = version
        if version in ("v3", "v4"):
            vits_model = SynthesizerTrnV3()
            self.configs.use_vocoder = True
            self.init_vocoder(version)
        else:
            vits_model = SynthesizerTrn()
            self.configs.use_vocoder = False
        vits_model.load_state_dict(loaded["weight"], strict=False)
        vits_model = vits_model.to(self.configs.device)
        vits_model = vits_model.eval()
        self.vits_model = vits_model
        if self.configs.is_half and str(self.configs.device) != "cpu":
            self.vits_model = self.vits_model.half()
        self.configs.save_configs()

    def init_vocoder(self, version):
        name = {"v3": "BigVGAN", "v4": "Generator"}[version]
        if self.vocoder is not None and self.vocoder.__class__.__name__ == name:
            return
        if self.vocoder is not None:
            self.vocoder.cpu()
            del self.vocoder
            self.empty_cache()
        if version == "v3":
            self.vocoder = BigVGAN.from_pretrained("models", use_cuda_kernel=False)
            self.vocoder.remove_weight_norm()
            self.vocoder_configs["sr"] = 24000
        else:
            self.vocoder = Generator(
                10, "1", (3, 5), ((1, 3, 5),) * 2, (4, 3, 2), 32, (8, 7, 4), is_bias=True
            )
            self.vocoder.remove_weight_norm()
            self.vocoder.load_state_dict(self.vocoder.state_dict())
            self.vocoder_configs["sr"] = 48000
        self.vocoder = self.vocoder.eval()
        if self.configs.is_half:
            self.vocoder = self.vocoder.half().to(self.configs.device)
        else:
            self.vocoder = self.vocoder.to(self.configs.device)

    def enable_half_precision(self, enable=True, save=True):
        self.configs.is_half = enable
        self.precision = torch.float16 if enable else torch.float32
        if save:
            self.configs.save_configs()
        for name in ("vits_model", "vocoder"):
            module = getattr(self, name)
            if module is not None:
                setattr(self, name, module.half() if enable else module.float())

    def set_device(self, device, save=True):
        self.configs.device = device
        if save:
            self.configs.save_configs()
        for name in ("vits_model", "vocoder"):
            module = getattr(self, name)
            if module is not None:
                setattr(self, name, module.to(device))

    @torch.no_grad()
    def run(self, inputs):
        t2s = self.t2s_model.model
        phones = self.text_preprocessor.preprocess(inputs["text"], inputs.get("text_lang", "en"))
        if inputs.get("streaming_mode"):
            t2s.infer_panel = t2s.infer_panel_naive
        elif inputs.get("parallel_infer", True):
            t2s.infer_panel = t2s.infer_panel_batch_infer
        else:
            t2s.infer_panel = t2s.infer_panel_naive_batched
        try:
            codes = t2s.infer_panel(phones)
            if inputs.get("streaming_mode"):
                codes = torch.cat(list(codes))
            semantic = codes[None, None].to(self.configs.device)
            if inputs.get("fail"):
                raise RuntimeError("a request that fails")
            refer = torch.full((1, 4), 0.5)
            if not self.configs.use_vocoder:
                sr, fragments = self.configs.sampling_rate, []
                fragments.append(self.vits_model.decode(semantic, None, refer).detach()[0, 0, :])
            elif inputs.get("parallel_infer", True):
                sr = self.vocoder_configs["sr"]
                fragments = self.using_vocoder_synthesis_batched_infer(semantic, None)
            else:
                sr = self.vocoder_configs["sr"]
                fragments = [self.using_vocoder_synthesis(semantic, None)]
            if inputs.get("return_fragment"):
                for fragment in fragments:
                    yield self.audio_postprocess([fragment], sr)
            else:
                yield self.audio_postprocess(fragments, sr)
        except Exception as error:
            traceback.print_exc()
            yield 16000, np.zeros(16000, dtype=np.int16)
            del self.vits_model
            self.vits_model = None
            self.init_vits_weights(self.configs.vits_weights_path)
            raise error
        finally:
            self.empty_cache()

    def empty_cache(self):
        gc.collect()

    def audio_postprocess(self, audio, sr):
        for i, fragment in enumerate(audio):
            max_audio = torch.abs(fragment).max()
            if max_audio > 0:  # upstream: if > 1; always here, so that writing in place is tested
                fragment /= max_audio
            audio[i] = torch.cat([fragment, torch.zeros(100, dtype=self.precision)])
        return sr, (torch.cat(audio).float().cpu().numpy() * 32767).astype(np.int16)

    def using_vocoder_synthesis(self, semantic_tokens, phones, speed=1.0, sample_steps=32):
        cfm_res = self.vits_model.mel(semantic_tokens)
        with torch.inference_mode():
            wav_gen = self.vocoder(cfm_res)
            audio = wav_gen[0][0]
            audio /= 1.0
        return audio.clone()

    def using_vocoder_synthesis_batched_infer(self, semantic_tokens, phones, sample_steps=32):
        pred_spec = self.vits_model.mel(semantic_tokens)
        with torch.no_grad():
            wav_gen = self.vocoder(pred_spec)
            audio = wav_gen[0][0]
        half = audio.shape[0] // 2
        return [audio[:half], audio[half:]]


def save_weights(path, version, seed=0):
    """A checkpoint that `TTS.init_vits_weights` loads."""
    torch.manual_seed(seed)
    model = SynthesizerTrnV3() if version in ("v3", "v4") else SynthesizerTrn()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0 + 0.05 * seed)
    torch.save({"version": version, "weight": model.state_dict()}, path)
    return os.fspath(path)
