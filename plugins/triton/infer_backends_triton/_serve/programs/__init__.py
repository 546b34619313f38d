"""Programs that the server environment's Python runs; nothing imports them.

They use the standard library and what they say they run: the packages of this project need not be
installed there.
"""
