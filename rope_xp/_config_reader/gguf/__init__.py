"""A GGUF file → a mapping like config.json, as llama.cpp reads it; private.

============ =====================================================================================
`metadata`   `Metadata`: values out of the metadata of a file, by llama.cpp's keys
`file`       a file or a reader of one → its metadata, with the tensors that matter
`table`      ``gguf.json``: how llama.cpp rotates q and k of each architecture
`layers`     what the layers are called, and which rotate
`scaling`    llama.cpp's schedules → rope parameters that say the same
`tensors`    which tensors have to be handed in with the metadata
`translate`  `find`: all of it
============ =====================================================================================
"""
