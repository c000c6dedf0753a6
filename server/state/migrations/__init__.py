"""How the database came to be, step by step; server/state/database.py applies what is missing at every start."""
