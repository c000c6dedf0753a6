"""The whole chain in a toy world: a base model from scratch, a teacher by RL, students, and a report of their results.

Glossary: *family*, one set of operands (adding, subtracting); *style*, one way to explain (complete, wrong, terse,
chatter, leak); *base*, the pretrained model that is warmed-up teacher, frozen reward student and student to distil at
once.
"""
