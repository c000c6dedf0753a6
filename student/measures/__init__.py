"""What is measured of an explanation besides its reward, one file a measure; results.py holds what is found.

gain          how much likelier the solution becomes by the explanation, nats a token at temperature 1
steps         pieces of the explanation that joined are it; the credit of one is the part of the gain that it adds
leak          how surely the solution is announced or referred to instead of derived, 0 to 1, and where
repetition    the share of the text that says again what it said
verified      whether a student who has read the explanation answers right, in its own_words
"""
