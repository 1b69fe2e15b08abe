"""The steps of an experiment. Each reads and writes plain files in a run folder.

No stage imports another; `run` calls them in order.
"""
