"""The folders of training runs, read while they are written, whoever wrote them. Nothing here writes, or loads torch.

    folders.py   which folders under a root are runs; files opened without ever leaving the root
    lines.py     lines and JSON of files that may be cut, huge, deep or wrong: what cannot be used is passed over
    figures.py   metrics.jsonl as series of a bounded number of points
    samples.py   explanations by step and problem
    runs.py      a run as a whole: its state, settings, figures, events and report

Left out: what a page makes of it, which is the server's; the files' own format, which is student/run_files.py's.
"""
