"""The specifications as pure values: digests, names, descriptors, manifests. No I/O."""
