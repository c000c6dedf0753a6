"""Explanations in the formats of other trainers: one object a format, Arrow tables in and out.

source      where explanations are read from, batch by batch; sources.py
lesson      a row to train on as text: system message, question, what the student learns to write; formats.py
format      what one trainer reads, made from lessons; a file a family: trl.py, preferences.py, stepwise.py,
            llamafactory.py, axolotl.py, conversations.py, prompts.py, tables.py; by name in registry.py
options     what the caller wants of a format: tag style, margin, bounds, the columns that tell where a row is from
refused     a lesson that makes no row of a format, with the reason
truth       what an RL trainer's scorer compares a response with; ground_truths.py
card        README.md of an export whose rows lie in a folder with a card; cards.py
glue        the files that a trainer needs beside its data
encoder     what turns tables into the bytes of files, a group of rows at a time; encoders.py
exporter    the one way from rows to files, of `rlt export` and of the service; exporter.py
"""
