"""Log-probabilities of given tokens under a frozen causal LM: what the reward is made of, and most of what it costs.

    passages -> plan.py -> packs -> bodies.py -> hidden states where a number is wanted -> heads.py -> log-probabilities

protocol.py   what the reward asks of a student, wherever its model is
opening.py    the student that the settings mean: in this process, or on servers
scorer.py     the whole of it, for a model in this process; the exact KL between two
plan.py       which passages go through the model together, and which of them share a beginning that is read once
bodies.py     the model without its head: passages packed into one row, or padded, a row each, where they cannot be
attention.py  what a packed row needs of attention: a passage sees its own tokens and the beginning it shares
heads.py      hidden states to log-probabilities, tile by tile: never a [tokens, vocabulary] tensor
linear.py     the matrix product of a CPU, by oneDNN where that is at hand
flex.py       attention inside a pack on a GPU; kernels.py: the head's fused kernels there
remote.py     a student on vLLM servers, each of them a vllm_server.py
self_test.py  holds such a server against the student here; temperature.py folds a temperature into its weights
alignment.py  two tokenisations of one text: log-probabilities summed over the smallest spans that both have

Everything here changes what a number costs and never the number.
"""
