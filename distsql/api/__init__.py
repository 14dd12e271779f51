"""HTTP in, HTTP out. Handlers are sentences: parse, one call of the registry, answer."""
