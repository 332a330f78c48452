"""Runs published models: TensorFlow off the event loop, batched, swapped without dropping a call.

runtime.py   TensorFlow, imported late, quiet, with few threads; threads.py: numpy's
model.py     a SavedModel checked against its manifest: `encode_adapt` and `item_rows`
batcher.py   micro-batches on one worker thread, bounded, deadlines kept
follower.py  follows the item stream of the feature service
clients.py   that stream over gRPC
hosting.py   the models of all domains, and the one worker thread; settings.py, metrics.py: theirs
holder.py    watch the registry → load → warm → swap → keep the items live
"""
