"""The server's side: explanations and scores over HTTP. Builds on teacher/ and student/, and neither imports it.

Empty so far: whoever needs explanations today runs `rlt explain`.
"""

__all__: list[str] = []
