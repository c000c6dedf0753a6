"""Log-probabilities of given tokens under a frozen causal LM: what the reward is made of, and most of what it costs.

    passages -> plan.py -> packs -> bodies.py -> hidden states where a number is wanted -> heads.py -> log-probabilities

scorer.py     the whole of it, for a model in this process; the exact KL between two
plan.py       which passages go through the model together, and which of them share a beginning that is read once
bodies.py     the model without its head: passages packed into one row, or padded, a row each, where they cannot be
attention.py  what a packed row needs of attention: a passage sees its own tokens and the beginning it shares
heads.py      hidden states to log-probabilities, tile by tile: never a [tokens, vocabulary] tensor
linear.py     the matrix product of a CPU, by oneDNN where that is at hand

Everything here changes what a number costs and never the number.
"""
