"""Which explanations become lessons: `rlt select` and its parts, one file a filter. Nothing is thrown away.

verdict         what one filter said of a row; a row keeps all of them, and the first that failed is its `dropped`
bound           the least or the most that a measure may be; a row without the measure fails it; filters.py
contamination   a question that holds a passage of a test set; contamination.py
duplicate       a text that repeats a better row's, up to a few words; duplicates.py, on what words.py reads
ranking         the best explanations of each problem by one measure; ranking.py
ledger          what is remembered of every row, to find copies and to rank; ledger.py
selection       all of it over rows that are given twice, wherever they lie; selection.py, for select.py and the service
report          counts a reason and how each measure is distributed; report.py
"""
