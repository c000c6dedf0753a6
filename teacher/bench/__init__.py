"""`rlt bench score`: what a reward costs by our scorer and by the reference algorithm, on the same work in one process.

    workload.py    problems and explanations of wanted lengths, and models of a wanted vocabulary, all from scratch
    variants.py    the ways of computing the same rewards: ours, ours with less, the reference (benchmarks/)
    measuring.py   CPU seconds and wall time of one run; peak memory above the models, in a process of its own
    score.py       which sizes are measured how often, in turn; the verb
    report.py      the table, the plot, and what we vouch for

What counts is the median of the rounds' ratios of CPU seconds: on a shared machine, absolute figures say little.
"""
