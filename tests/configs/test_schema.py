"""Typing errors in `families.json`: one of each kind is planted, and must be named."""

from importlib import resources

import pytest

from rope_xp._config_reader import convert
from rope_xp._config_reader.checks import family_of
from rope_xp._config_reader.data import parse_json
from rope_xp._config_reader.table import as_table

TEXT = (
    resources.files("rope_xp._config_reader").joinpath("families.json").read_text(encoding="utf-8")
)


def parse(text):
    return as_table(parse_json(text, "families.json"))


LINES = parse(TEXT).lines


def read_with(old, new):
    """The table with ``new`` in one place where it has ``old``, and the families that this changes."""
    assert old in TEXT
    lines = parse(TEXT.replace(old, new, 1)).lines
    # By their text: 1 and True are equal.
    changed = [name for name in lines if repr(lines[name]) != repr(LINES.get(name))]
    return {name: family_of(name, lines[name]) for name in changed}


# A replacement, and what its sentence must say: which family, which key, what is wrong, what is known.
PLANTED = {
    "a key": (
        '"rotary_at_end": true',
        '"rotary_at_ned": true',
        ["'deepseek_v4'", "unknown key 'rotary_at_ned'; known: layout, rotary, ", "rotary_at_end"],
    ),
    "a key of a group": (
        '"per_layer_type": false, "rope_types": ["default"]',
        '"per_layer_typ": false, "rope_types": ["default"]',
        ["'cohere_compass_vision'", "unknown key 'per_layer_typ'; known: "],
    ),
    "a key that is missing": (
        '{"layout": "half", "rotary": "mla", "per_layer_type": false,',
        '{"layout": "half", "rotary": "mla",',
        ["'minicpm3'", "`per_layer_type` is required"],
    ),
    "no source": (
        '"source": "qwen3/modeling_qwen3.py:86", ',
        "",
        ["'qwen3'", "`source` is required"],
    ),
    "a layout": (
        '{"layout": "interleaved", "rotary": "special_gptj"',
        '{"layout": "interleavd", "rotary": "special_gptj"',
        ["'codegen'", "unknown layout 'interleavd'; known: half, interleaved"],
    ),
    "a rotary": (
        '"rotary": "special_clvp"',
        '"rotary": "special_clpv"',
        ["'clvp_encoder'", "unknown rotary 'special_clpv'; known: axes, generic, mla, "],
    ),
    "a rotary that is for unknown families": (
        '"rotary": "special_clvp"',
        '"rotary": "generic"',
        ["'clvp_encoder'", "`rotary` must not be 'generic'"],
    ),
    "a rule": (
        '"layers": "sliding_or_dense_prefix"',
        '"layers": "sliding_or_dense"',
        ["'cohere2_moe'", "unknown layers 'sliding_or_dense'; known: ", "sliding_or_dense_prefix"],
    ),
    "a rule as a sentence": (
        '"layers": "sliding_only_if_windowed"',
        '"layers": "sliding only, if there is a window"',
        ["'exaone4'", "unknown layers 'sliding only, if there is a window'; known: "],
    ),
    "where layer types are": (
        '"layer_types_from": "attn_layer_indices"',
        '"layer_types_from": "attn_layers"',
        ["'bamba'", "unknown layer_types_from 'attn_layers'; known: attn_layer_indices, attn_t"],
    ),
    "a layer type in a cycle": (
        '"layer_cycle": ["full_attention", "linear_attention"]',
        '"layer_cycle": ["full_attention", "liner_attention"]',
        ["'minimax'", "unknown layer_cycle[1] 'liner_attention'; known: attention, chunked_att"],
    ),
    "a layer type at the beginning": (
        '"first_layers": ["conv"]',
        '"first_layers": ["convolution"]',
        ["'lfm3'", "unknown first_layers[0] 'convolution'; known: attention"],
    ),
    "a layer type at the end": (
        '"first_layers": ["full_attention", "full_attention"], "last_layer": "full_attention"',
        '"first_layers": ["full_attention", "full_attention"], "last_layer": "full"',
        ["'flint'", "unknown last_layer 'full'; known: attention"],
    ),
    "a layer type of a ratio": (
        '"4": "compressed_sparse_attention"',
        '"4": "compressed_spares_attention"',
        ["'deepseek_v4'", "unknown layer_type_of_ratio['4'] 'compressed_spares_attention'; known"],
    ),
    "a layer type of rope parameters": (
        '"full_attention": {"rope_type": "default", "rope_theta": 2560000.0}',
        '"ful_attention": {"rope_type": "default", "rope_theta": 2560000.0}',
        ["'ultrabert'", "unknown layer type 'ful_attention' in rope_parameters; known: attention"],
    ),
    "a layer type of rope parameters that no layer has": (
        '"full_attention": {"rope_type": "default", "rope_theta": 2560000.0}',
        '"global_attention": {"rope_type": "default", "rope_theta": 2560000.0}',
        ["'ultrabert'", "`rope_parameters` must have each layer type, got none for 'full_att"],
    ),
    "a name of rope parameters that are not for layer types": (
        '"compress": {"rope_theta"',
        '"compressed": {"rope_theta"',
        [
            "'deepseek_v4'",
            "unknown layer type 'compressed' in rope_parameters; known: compress, ma",
        ],
    ),
    "a layer type of bases": (
        '"base_keys": {"full_attention": "global_rope_theta", "sliding_attention"',
        '"base_keys": {"full_attention": "global_rope_theta", "sliding"',
        ["'modernbert'", "unknown layer type 'sliding' in base_keys; known: full_attention, sl"],
    ),
    "a layer type of rope_scaling": (
        '"rope_scaling_layer_types": ["compress"]',
        '"rope_scaling_layer_types": ["compressed"]',
        ["'deepseek_v4'", "unknown layer type 'compressed' in rope_scaling_layer_types; known: c"],
    ),
    "a layer type of head sizes": (
        '"head_dim_of_layer_type": {"sliding_attention": {"key": "swa_qk',
        '"head_dim_of_layer_type": {"slide_attention": {"key": "swa_qk',
        ["'dots3_note_text'", "unknown key of head_dim_of_layer_type 'slide_attention'; known: "],
    ),
    "a layer type of fractions": (
        '"partial_rotary_factor": {"full_attention": 0.25, "sliding_attention": 1.0}',
        '"partial_rotary_factor": {"full": 0.25, "sliding_attention": 1.0}',
        ["'neomme'", "unknown layer type 'full' in partial_rotary_factor; known: full_attention"],
    ),
    "the key of a base": (
        '"rotary_emb_base"',
        '"rotary_embed_base"',
        ["'gpt_neox'", "unknown base_keys[0] 'rotary_embed_base'; known: ", "rotary_emb_base"],
    ),
    "the target of an alias": (
        '"n_embd": "hidden_size"',
        '"n_embd": "hiden_size"',
        ["'codegen'", "unknown aliases['n_embd'] 'hiden_size'; known: head_dim, hidden_size"],
    ),
    "a default": (
        '"defaults": {"num_hidden_layers": 12, "hidden_size": 384, "num_attention_heads": 6}',
        '"defaults": {"num_hidden_layers": 12, "hidden_siz": 384, "num_attention_heads": 6}',
        ["'dinov3_vit'", "unknown key 'hidden_siz' in defaults; known: head_dim, hidden_size"],
    ),
    "a default that is missing": (
        '"defaults": {"num_hidden_layers": 12, "hidden_size": 384, "num_attention_heads": 6}',
        '"defaults": {"num_hidden_layers": 12, "hidden_size": 384}',
        ["'dinov3_vit'", "`head_dim` is required in defaults"],
    ),
    "an accepted rope_type": (
        '"rope_types": ["default", "longrope"], "extra_keys"',
        '"rope_types": ["default", "long_rope"], "extra_keys"',
        ["'phimoe'", "unknown rope_types[1] 'long_rope'; known: default, dynamic, linear, llama3"],
    ),
    "the target of a rope_type's other name": (
        '"rope_type_aliases": {"xdrope": "dynamic"}',
        '"rope_type_aliases": {"xdrope": "dynamik"}',
        ["'hunyuan_vl_text'", "unknown rope_type_aliases['xdrope'] 'dynamik'; known: default"],
    ),
    "the rope_type of default parameters": (
        '"rope_parameters": {"rope_type": "llama3", "rope_theta": 12000000.0',
        '"rope_parameters": {"rope_type": "lama3", "rope_theta": 12000000.0',
        ["'apertus'", "unknown rope_type 'lama3' in rope_parameters; known: default, linear"],
    ),
    "a rope_type that the family does not accept": (
        '"rope_types": ["linear", "dynamic", "yarn", "longrope", "llama3"], "extra',
        '"rope_types": ["linear", "dynamic", "longrope", "llama3"], "extra',
        ["'mistral4'", "`rope_type` in rope_parameters must be one of rope_types, got 'yarn'"],
    ),
    "a key of default parameters": (
        '"rope_theta": 12000000.0, "factor": 8.0',
        '"rope_theta": 12000000.0, "faktor": 8.0',
        ["'apertus'", "unknown key 'faktor' in rope_parameters for rope_type 'llama3'; known: "],
    ),
    "a key of default parameters of a layer type": (
        '{"rope_type": "default", "rope_theta": 2560000.0}',
        '{"rope_type": "default", "rope_tetha": 2560000.0}',
        ["'ultrabert'", "unknown key 'rope_tetha' in rope_parameters['full_attention'] for"],
    ),
    "no base in default parameters of a layer type": (
        '{"rope_type": "default", "rope_theta": 2560000.0}',
        '{"rope_type": "default"}',
        ["'ultrabert'", "`rope_theta` is required in rope_parameters['full_attention']"],
    ),
    "a number as a string in default parameters": (
        '"rope_theta": 12000000.0, "factor": 8.0',
        '"rope_theta": 12000000.0, "factor": "8.0"',
        ["'apertus'", "`factor` in rope_parameters must be a number, got '8.0'"],
    ),
    "the base as a string in default parameters": (
        '{"rope_type": "default", "rope_theta": 2560000.0}',
        '{"rope_type": "default", "rope_theta": "2560000.0"}',
        ["'ultrabert'", "`rope_theta` in rope_parameters['full_attention'] must be a positive num"],
    ),
    "a flag as a string in default parameters": (
        '"truncate": false',
        '"truncate": "false"',
        ["'gpt_oss'", "`truncate` in rope_parameters must be", "got 'false'"],
    ),
    "a number as a string": (
        '"base": 11158840.0',
        '"base": "11158840.0"',
        ["'hy_v3'", "`base` must be a finite number or null, got '11158840.0'"],
    ),
    "a number that is none": (
        '"base": 11158840.0',
        '"base": NaN',
        ["'hy_v3'", "`base` must be a finite number or null, got nan"],
    ),
    "a number as a string in a mapping": (
        '"hidden_size": 384,',
        '"hidden_size": "384",',
        ["'dinov3_vit'", "`defaults['hidden_size']` must be an integer, got '384'"],
    ),
    "an integer with a fraction": (
        '"hidden_size": 384,',
        '"hidden_size": 384.5,',
        ["'dinov3_vit'", "`defaults['hidden_size']` must be an integer, got 384.5"],
    ),
    "a number as a flag": (
        '"base": 11158840.0',
        '"base": true',
        ["'hy_v3'", "`base` must be a finite number or null, got True"],
    ),
    "a flag as a string": (
        '"lists_per_layer": true}',
        '"lists_per_layer": "true"}',
        ["'ultrabert'", "`lists_per_layer` must be true or false, got 'true'"],
    ),
    "a flag as a number": (
        '"mscale_softmax": true',
        '"mscale_softmax": 1',
        ["`mscale_softmax` must be true or false, got 1"],
    ),
    "a string as a list": (
        '"head_dim_divisor_key": "memory_attention_downsample_rate"',
        '"head_dim_divisor_key": ["memory_attention_downsample_rate"]',
        ["'edgetam_video'", "`head_dim_divisor_key` must be a string or null, got ['memory"],
    ),
    "a list as a string": (
        '"ignored_keys": ["partial_rotary_factor"]',
        '"ignored_keys": "partial_rotary_factor"',
        ["'dots3_note_text'", "`ignored_keys` must be a list, got 'partial_rotary_factor'"],
    ),
    "null": (
        '"ignored_keys": ["partial_rotary_factor"]',
        '"ignored_keys": null',
        ["'dots3_note_text'", "`ignored_keys` must be a list, got None"],
    ),
    "a key that is ignored": (
        '"ignored_keys": ["partial_rotary_factor"]',
        '"ignored_keys": ["rotary_dims"]',
        ["'dots3_note_text'", "unknown ignored_keys[0] 'rotary_dims'; known: partial_rotary_f"],
    ),
    "a direction": (
        '"direction": "negative"',
        '"direction": "backwards"',
        ["'nanochat'", "unknown direction 'backwards'; known: negative, positive"],
    ),
    "a direction as a number": (
        '"direction": "negative"',
        '"direction": -1',
        ["'nanochat'", "`direction` must be a string, got -1"],
    ),
    "a kind of axes": (
        '"axes": {"kind": "AxisPerPair", "mrope_section"',
        '"axes": {"kind": "AxisPerPairs", "mrope_section"',
        ["'ernie4_5_vl_moe_text'", "unknown axes.kind 'AxisPerPairs'; known: Axial, AxisPer"],
    ),
    "no kind of axes": (
        '"axes": {"kind": "AxisPerPair", "mrope_section"',
        '"axes": {"mrope_section"',
        ["'ernie4_5_vl_moe_text'", "unknown axes.kind None; known: Axial, AxisPerPair"],
    ),
    "axes without sections": (
        '"axes": {"kind": "InterleavedSections", "mrope_section": [24, 20, 20]}},\n  "csm"',
        '"axes": {"kind": "InterleavedSections"}},\n  "csm"',
        ["'cosmos3_edge_text'", "`mrope_section` is required in axes"],
    ),
    "axes without runs": (
        ', "runs": [[1, 2], [0]]}',
        "}",
        ["'ernie4_5_vl_moe_text'", "`runs` is required in axes"],
    ),
    "runs that miss an axis": (
        '"runs": [[1, 2], [0]]',
        '"runs": [[1, 3], [0]]',
        ["'ernie4_5_vl_moe_text'", "`runs` must name each of the axes 0, 1, … once, got"],
    ),
    "runs with fewer sections": (
        '"mrope_section": [22, 22, 20], "runs"',
        '"mrope_section": [44, 20], "runs"',
        ["'ernie4_5_vl_moe_text'", "`mrope_section` must have one number for each axis, got (44"],
    ),
    "two runs without sections": (
        '"runs": [[0, 1]]',
        '"runs": [[0], [1]]',
        ["'neomme'", "`mrope_section` is required for more than one run"],
    ),
    "a key of axes": (
        '"split": true',
        '"splitt": true',
        ["'gemma4_vision'", "unknown key 'splitt' in axes; known: widths, arrangement"],
    ),
    "a key of axes of another kind": (
        '"axes": {"kind": "AxisPerPair", "runs": [[0, 1]]}',
        '"axes": {"kind": "Axial", "runs": [[0, 1]]}',
        ["'neomme'", "unknown key 'runs' in axes; known: widths"],
    ),
    "a flag as a string in axes": (
        '"split": true',
        '"split": "true"',
        ["'gemma4_vision'", "`axes.split` must be true or false, got 'true'"],
    ),
    "a number as a string in axes": (
        '"scale": 6.283185307179586',
        '"scale": "6.283185307179586"',
        ["'dinov3_vit'", "`axes.scale` must be a finite number, got '6.283185307179586'"],
    ),
    "a section as a string": (
        '"mrope_section": [22, 22, 20]',
        '"mrope_section": [22, "22", 20]',
        ["'ernie4_5_vl_moe_text'", "`axes.mrope_section[1]` must be an integer, got '22'"],
    ),
    "a name in axes": (
        '"frequencies": "shared"',
        '"frequencies": "share"',
        ["'pixtral'", "`frequencies` must be one of", "got 'share'", "in axes"],
    ),
    "axes as a string": (
        '"axes": {"kind": "AxisPerPair", "runs": [[0, 1]]}',
        '"axes": "AxisPerPair"',
        ["'neomme'", "`axes` must be a mapping", "got 'AxisPerPair'"],
    ),
    "axes that cannot share what rotates": (
        '"rotary": "axes", "axes": {"kind": "Axial", "widths": 3}',
        '"rotary": "axes", "axes": {"kind": "Sections", "mrope_section": [8, 8, 8]}',
        ["'minimax_m3_vl_vision'", "`axes` must be of kind 'Axial' for rotary 'axes'"],
    ),
    "a key of enabled_if": (
        '"enabled_if": {"key": "alibi", "equals": false, "default": false}',
        '"enabled_if": {"key": "alibi", "equal": false, "default": false}',
        ["'falcon'", "unknown key 'equal' in enabled_if; known: key, equals, default"],
    ),
    "a key of enabled_if that is missing": (
        '"enabled_if": {"key": "alibi", "equals": false, "default": false}',
        '"enabled_if": {"key": "alibi", "equals": false}',
        ["'falcon'", "`default` is required in enabled_if"],
    ),
    "a flag as a string in enabled_if": (
        '"enabled_if": {"key": "alibi", "equals": false, "default": false}',
        '"enabled_if": {"key": "alibi", "equals": "false", "default": false}',
        ["'falcon'", "`default` must be of the type of equals='false', got False in enabled_if"],
    ),
    "enabled_if as a list": (
        '"enabled_if": {"key": "alibi", "equals": false, "default": false}',
        '"enabled_if": ["alibi", false, false]',
        ["'falcon'", "`enabled_if` must be a mapping or null, got ['alibi', False, False]"],
    ),
    "a key of head sizes": (
        '{"key": "swa_head_dim", "default": 256}',
        '{"key": "swa_head_dim", "defalt": 256}',
        [
            "'dots3_note_text'",
            "unknown key 'defalt' in head_dim_of_layer_type['sliding_attention']",
        ],
    ),
    "one of two head sizes": (
        '{"key": "swa_head_dim", "default": 256}, ',
        "",
        ["'dots3_note_text'", "default_difference` must have 2 entries, got 1"],
    ),
    "a head size without default": (
        '{"full_attention": {"key": "global_head_dim", "default": 512}}},\n  "gemma3_text"',
        '{"full_attention": {"key": "global_head_dim"}}},\n  "gemma3_text"',
        ["'embedding_gemma2_text'", "`default` or `default_difference` is required"],
    ),
    "a part of a head where heads rotate whole": (
        '"base": 11158840.0',
        '"base": 11158840.0, "partial_rotary_factor": 0.5',
        ["'hy_v3'", "`partial_rotary_factor` must be absent for rotary 'whole'"],
    ),
    "no base": (
        ', "base": 11158840.0',
        "",
        ["'hy_v3'", "`base` is required where per_layer_type is false"],
    ),
    "two bases": (
        '"rope_theta": 12000000.0, "factor": 8.0',
        '"rope_theta": 1200000.0, "factor": 8.0',
        ["'apertus'", "`base` must be that of rope_parameters, 1200000.0, got 12000000.0"],
    ),
    "a base beside layer types": (
        '"lists_per_layer": true}',
        '"base": 10000.0}',
        ["'ultrabert'", "`base` must be absent where per_layer_type is true"],
    ),
    "a key for layer types where layers are alike": (
        '"base": 11158840.0',
        '"base": 11158840.0, "lists_per_layer": true',
        ["'hy_v3'", "`lists_per_layer` must be absent where per_layer_type is false"],
    ),
    "bases by layer type where layers are alike": (
        '"base": 11158840.0',
        '"base": 11158840.0, "base_keys": {"full_attention": "rope_theta"}',
        ["'hy_v3'", "`base_keys` must not be a mapping where per_layer_type is false"],
    ),
    "bases in a list where layers differ": (
        '"lists_per_layer": true}',
        '"base_keys": ["rope_theta"]}',
        ["'ultrabert'", "`base_keys` must be a mapping of layer types"],
    ),
    "one mapping where layers differ": (
        '"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 50000.0}}',
        '"rope_parameters": {"sliding_attention": "default"}',
        ["'cohere_compass_text'", "`rope_parameters['sliding_attention']` must be a mapping, got"],
    ),
    "no parameters where layers differ": (
        '"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 50000.0}}',
        '"reads_type": true',
        ["'cohere_compass_text'", "`rope_parameters` is required where per_layer_type is true"],
    ),
    "a rule without a cycle": (
        (
            ', "layer_cycle": ["sliding_attention", "sliding_attention", "sliding_attention", '
            '"sliding_attention", "full_attention"], "layers": "sliding_only_if_windowed"'
        ),
        ', "layers": "sliding_only_if_windowed"',
        ["'kolibri1'", "`layer_cycle` must have sliding_attention for layers 'sliding_only_if_w"],
    ),
    "a last layer without a cycle": (
        '"base": 11158840.0',
        '"base": 11158840.0, "last_layer": "full_attention"',
        ["'hy_v3'", "`layer_cycle` is required for last_layer"],
    ),
    "blocks without a cycle": (
        '"layer_cycle": ["recurrent", "recurrent", "attention"], ',
        "",
        ["'recurrent_gemma'", "`layer_cycle` is required for layer_types_from 'block_types'"],
    ),
    "a cycle of no one length": (
        '"layer_cycle": ["full_attention", "sliding_attention", "sliding_attention"], "layer_cycle_key"',
        (
            '"layer_cycle": ["full_attention", "sliding_attention", "full_attention", '
            '"sliding_attention"], "layer_cycle_key"'
        ),
        ["'modernbert'", "`layer_cycle` must be one layer type and another repeated, got"],
    ),
    "a family twice": (
        '"axk2": {',
        '"axk1": {',
        ["'axk1' must be there once, got it twice"],
    ),
    "a family in two groups": (
        '"hy_v4": {',
        '"qwen3": {',
        ["'qwen3' must be in one group, got two"],
    ),
    "a key twice": (
        '"base": 11158840.0',
        '"base": 11158840.0, "base": 10000.0',
        ["'base' must be there once, got it twice"],
    ),
    "a key of the whole": (
        '"text_part_of": {',
        '"text_parts_of": {',
        ["unknown key 'text_parts_of'; known: about, version, groups, text_part_of"],
    ),
    "a group without models": (
        '"per_layer_type": true, "models": {\n  "beam"',
        '"per_layer_type": true, "modles": {\n  "beam"',
        ["families.json: `models` must be a mapping, got None"],
    ),
    "a family as a list": (
        '"helium": {"source": "helium/modeling_helium.py:64"',
        '"hellium": [], "helium": {"source": "helium/modeling_helium.py:64"',
        ["families.json: 'hellium' must be a mapping, got []"],
    ),
    "a part as a number": (
        '"aria": "aria_text"',
        '"aria": 1',
        ["families.json: `text_part_of['aria']` must be a string, got 1"],
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_typing_error_is_named(name):
    old, new, words = PLANTED[name]
    with pytest.raises(ValueError, match=r"^families\.json") as caught:
        read_with(old, new)
    for part in words:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_typing_error_nothing_is_refused():
    """The replacement itself is not what is refused."""
    assert not read_with('"base": 10000.0', '"base":  10000.0')
    (family,) = read_with('"base": 11158840.0', '"base": 500').values()
    assert family.base == 500.0
    assert isinstance(family.base, float)


def test_an_annotation_without_a_rule_is_refused():
    with pytest.raises(TypeError, match="no rule for the annotation <class 'complex'>"):
        convert.convert(complex, 1.0, "x")
