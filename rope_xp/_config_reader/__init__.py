"""From a model's config to a plain description of each layer."""
