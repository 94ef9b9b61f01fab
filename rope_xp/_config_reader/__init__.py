"""A model's config → a plain description of each layer; private.

Data flows down this list, and so do imports:

=============== ==================================================================================
`values`        numbers, flags, lists and mappings out of a config, each refused in a sentence
`schedules`     what each ``rope_type`` is: its keys and its schedule, the one registry
`vocabulary`    the closed sets of names that ``families.json`` uses, and what each name means
`convert`       JSON → what an annotation describes, or a sentence that names the key
`data`          the JSON files of this package
`schema`        `Family`: every key that a line of ``families.json`` may have, and what it means
`checks`        a line of ``families.json`` → a `Family`, with the rules that join several keys
`table`         the tables of families, ``families.json`` and ``published.json``, line by line
`found`         `Found`: what every kind of file comes to
`parts`         the part of a composite that is asked for: its language model, or its vision tower
`meanings`      keys of published code about positions, by what they mean
`unread`        keys that could change the rotation and that nothing reads
`unlisted`      the family of a model_type that is in no table
`carriers`      other kinds of file → a mapping like config.json; see its map
`gguf`          the metadata of a GGUF file → a mapping like config.json; see its map
`paths`         paths and folders → a mapping
`files`         a path or a config object → a mapping within bounds
`families`      which family a config belongs to, and which part of it says how positions are encoded
`layer_types`   what each layer is called
`model`         `ModelConfig`: a config, its family and its layer types, the argument of what follows
`entries`       the rope parameters of each layer type
`sizes`         how large heads are, and how much of them rotates
`axes`          which position axis drives which pair
`spec`          what is read: plain descriptions of a model and of its layers
`layer_rules`   which layers rotate
`query_scales`  what queries are multiplied by
`ranges`        dual chunk attention, which some configs ask for
`layers`        `read`: all of it
=============== ==================================================================================
"""
