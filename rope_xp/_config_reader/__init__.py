"""A model's config → a plain description of each layer; private.

Data flows down this list, and so do imports:

=============== ==================================================================================
`values`        numbers, flags, lists and mappings out of a config, each refused in a sentence
`gguf_metadata` `Metadata`: values out of the metadata of a GGUF file, by llama.cpp's keys
`gguf_file`     a GGUF file or a reader of one → its metadata, with the tensors that matter
`files`         paths, folders, config objects → a mapping
`schedules`     what each ``rope_type`` is: its keys and its schedule, the one registry
`vocabulary`    the closed sets of names that ``families.json`` uses, and what each name means
`convert`       JSON → what an annotation describes, or a sentence that names the key
`schema`        `Family`: every key that a line of ``families.json`` may have, and what it means
`checks`        a line of ``families.json`` → a `Family`, with the rules that join several keys
`table`         the tables of families, ``families.json`` and ``published.json``, line by line
`found`         `Found`: what every kind of file comes to
`parts`         the part of a composite that is asked for: its language model, or its vision tower
`unread`        keys that could change the rotation and that nothing reads
`unlisted`      the family of a model_type that is in no table
`renamed`       keys of other kinds of file, checked by the names that the file has
`params`        the params.json of Meta's, Mistral's and DeepSeek's own code → a mapping like config.json
`litgpt`        litgpt's Config → a mapping like config.json
`diffusers`     the config of a transformer of diffusers → a mapping like config.json
`torchtune`     the model of torchtune's recipe → a mapping like config.json
`mlx`           the pairing that a config.json of mlx-lm says
`gguf_table`    ``gguf.json``: how llama.cpp rotates q and k of each architecture
`gguf_layers`   what the layers of a GGUF file are called, and which rotate
`gguf_scaling`  llama.cpp's schedules → rope parameters that say the same
`gguf_tensors`  which tensors have to be handed in with the metadata
`gguf`          the metadata of a GGUF file → a mapping like config.json
`families`      which family a config belongs to, and which part of it says how positions are encoded
`layer_types`   what each layer is called
`model`         `ModelConfig`: a config, its family and its layer types, the argument of what follows
`entries`       the rope parameters of each layer type
`sizes`         how large heads are, and how much of them rotates
`axes`          which position axis drives which pair
`spec`          what is read: plain descriptions of a model and of its layers
`layer_rules`   which layers rotate
`query_scales`  what queries are multiplied by
`layers`        `read`: all of it
=============== ==================================================================================
"""
