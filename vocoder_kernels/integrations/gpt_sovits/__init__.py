"""GPT-SoVITS: the live pipeline, its configuration file, its entry scripts, its stage times."""
