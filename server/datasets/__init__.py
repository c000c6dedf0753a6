"""A dataset's job: problems read, units explained, rows chosen, shards exported."""
