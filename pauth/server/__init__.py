"""One client's dealings with one authorization server: its metadata and keys, its endpoints, the identities it vouches for.

Knows nothing of storage.
"""
