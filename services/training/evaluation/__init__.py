"""Offline evaluation of what is served: the artifact's own signatures and rows, on people never trained on.

metrics.py    NDCG, hit rate, paired bootstrap
protocol.py   who is asked what: support, query, masks
baselines.py  popularity and item-kNN, tuned on validation people
served.py     an artifact as the servers run it
few_shot.py   the k-shot table
new_items.py  items added by text alone
feedback.py   what a like and a dislike do to the items around them
report.py     JSON, Markdown and a plot
"""
