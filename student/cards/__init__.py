"""The card of a dataset: README.md with the hub's front matter, and pictures beside it, made from rows of any number.

sketch      how a measure is distributed, in the same memory for any number of rows; sketch.py
census      what the rows are, in numbers; census.py
licence     what the front matter may call the licences that the rows name; licences.py
inert       hostile text as it may stand in Markdown; inert.py
picture     a measure over the rows kept and those dropped, as PNG; pictures.py
recipe      the settings that made the rows, as far as they lie beside them; recipe.py
card        all of it as files; card.py
"""
