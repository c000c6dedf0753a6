"""Our own resources through the openai SDK: n ranked explanations of a problem, and the score of any trace.

    pip install openai; python examples/explain_openai.py

RLT_URL and RLT_API_KEY say where the service is; a demo's service needs neither.
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("RLT_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("RLT_API_KEY", "no-key-needed"),
)
problem = {"question": "3 +1 +5 +8 +2 +1", "solution": "0"}

answer = client.post("/explanations", body={**problem, "best_of": 8, "n": 2, "temperature": 1.0}, cast_to=object)
for choice in answer["explanations"]:
    print(f"{choice['score']['reward']:8.3f}  {choice['explanation']}")

trace = {"explanation": "+1 = 4 +5 = 9 +8 = 7 +2 = 9 +1 = 0"}
score = client.post("/scores", body={**problem, **trace, "per_token": True}, cast_to=object)
print(f"{score['score']['reward']:8.3f}  {trace['explanation']}")
for token in score["explanation_tokens"]:
    print(f"          {token['logp']:8.3f}  {token['text']!r}")
