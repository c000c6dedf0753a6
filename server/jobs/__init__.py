"""Durable work: jobs in units, claimed with a fence and committed once, by any number of workers."""
