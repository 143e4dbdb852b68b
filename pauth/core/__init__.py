"""OAuth without I/O.

Requests are built here and answers are read here, and nothing in this package opens a socket, reads a clock or draws randomness. Every function is
plain ``def`` with frozen data in and out; the time (``now``, seconds since the Unix epoch) and the source of random bytes are arguments. So all of it
can be tested as data, and used under any HTTP client and any event loop.
"""
