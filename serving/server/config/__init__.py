"""What the operator says: command line flags and the files they name, read strictly.

Everything here turns text into typed settings and refuses what it does not understand; nothing here starts a server.
"""
