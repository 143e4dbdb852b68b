"""Keeping tokens valid: when to refresh, that it happens once, and that what the server gave is stored before anybody sees it.

This room knows tokens and stores, not HTTP: the request itself is a callable handed in.
"""
