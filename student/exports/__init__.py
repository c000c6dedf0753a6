"""Explanations in the formats of other trainers: one object a format, Arrow tables in and out.

source      where explanations are read from, batch by batch; sources.py
lesson      a row to train on as text: system message, question, what the student learns to write; formats.py
format      what one trainer reads, made from lessons; conversations.py, by name in registry.py
glue        the files that a trainer needs beside its data
"""
