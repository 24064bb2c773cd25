"""One small flow per behaviour, each run undisturbed, crashed at every commit, and resumed twice.

`flows` holds the flows, `cases` the table of their runs, `stage` takes one to its end, `trial`
kills it on the way and compares what is left, `broken` holds drivers that must be found out.
"""
