"""How the controller is reached: a Unix socket that everybody may open, and a TCP address.

Who may do what is decided by the user id that the kernel vouches for, or MUNGE for those on other
machines. One connection carries one request and one answer, each a line of JSON (protocol.py); over
the network these are sealed (sealing.py).
"""
