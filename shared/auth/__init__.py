"""Who may call a door (the gateway, the training service), and how much. Knows nothing of gRPC.

callers.py       a caller as a credential makes it: scopes, domains, quota
scopes.py        which scope each RPC asks for
keys.py          static keys: made, hashed, looked up
key_file.py      the file of static keys: its schema, written whole
jwt_keys.py      public keys and the secret that sign tokens
tokens.py        signed tokens (JWT): verified, remembered
followed.py      a file that is read again when it changes
quotas.py        token buckets
credentials.py   from a call's metadata to its caller
guard.py         all of it, as a server asks
metrics.py       refusals and calls, counted
settings.py      what a door is told
"""
