"""vocoder_kernels: the vocoder of a loaded GPT-SoVITS model, several times faster, nothing else changed."""
