"""Kinds of file other than transformers' config.json and GGUF → a mapping like config.json; private.

============ =====================================================================================
`renamed`    keys checked by the names that the file has
`params`     the params.json of Meta's, Mistral's and DeepSeek's own code
`litgpt`     litgpt's Config
`diffusers`  the config of a transformer of diffusers
`torchtune`  the model of torchtune's recipe
`mlx`        the pairing that a config.json of mlx-lm says
============ =====================================================================================
"""
