"""Bytes by key: the contract, and the stores that keep it. Knows nothing of repositories, digests or SQL."""
