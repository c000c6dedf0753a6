"""What lasts: the database and its tables, storage for files and shards, keys."""
