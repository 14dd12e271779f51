"""Any OCI registry, behind the interfaces of `distsql.contract`: the base of copying and mirroring.

What the OCI API offers is had from every registry; the rest from those that are distsql (``_distsql``), and from others
it is `UnsupportedError`.
"""

from distsql.remote.namespace import RemoteNamespace, connect

__all__ = ["RemoteNamespace", "connect"]
