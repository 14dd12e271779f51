"""What only distsql offers, below ``/v2/_distsql/`` and ``/v2/<name>/_distsql/`` (PROTOCOL 6.4): JSON resources."""
