"""What a run of `rlt train` takes, by arithmetic alone: memory by part, seconds of a step by phase, fits or not.

Glossary: *shape*, the sizes of a model that count (shapes.py); *card*, a kind of GPU (cards.py); *case*, a recipe with
shapes on a number of GPUs (cases.py). Nothing here is measured but the two rates of the H200; docs/scale.md says what
is assumed.
"""
