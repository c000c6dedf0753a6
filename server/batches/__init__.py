"""A batch's job: lines of requests in, lines of responses out."""
