"""The web server: HTTP/1.1 on one side, an ASGI application on the other. It knows nothing of registries.

`workers` keeps the processes, `server` is one of them, `connections` reads requests, `exchanges` are a request and its
answer, `files` sends those that are too large for memory.
"""
