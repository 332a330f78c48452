"""gRPC, the same in every server.

server.py        lifecycle: bind, start, serve, drain, stop
channels.py      channels and calls to other servers
interceptors.py  what happens around every served call
codec/           common messages ↔ domain types
streams.py       streams that are open: limits, and their end
serving.py       the request being served: id, deadline, caller
status.py        our errors ↔ google.rpc.Status
health.py        waiting for a server
threads.py       how many threads numpy uses
heap.py          how often Python looks for garbage
"""
