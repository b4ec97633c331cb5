"""How the controller is reached: a Unix socket that everybody may open.

Who may do what is decided by the user id that the kernel vouches for. One connection carries one
request and one answer, each a line of JSON (protocol.py).
"""
