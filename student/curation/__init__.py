"""Which explanations become lessons: `rlt select` and its parts, one file a filter. Nothing is thrown away.

verdict       what one filter said of a row; a row keeps all of them, and the first that failed is its `dropped`
bound         the least or the most that a measure may be; a row without the measure fails it
ranking       the best explanations of each problem by one measure
duplicate     a row that says what an earlier kept row says, but for case, space and punctuation
"""
