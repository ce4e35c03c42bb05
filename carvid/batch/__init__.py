"""Many clips with models that are loaded once."""
