"""From a config to objects: the only room that instantiates."""
