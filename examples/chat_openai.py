"""Explanations by the stock openai SDK: chat completions, whole and streamed, and the RLT fields beside them.

    pip install openai; python examples/chat_openai.py

RLT_URL and RLT_API_KEY say where the service is; a demo's service needs neither.
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("RLT_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("RLT_API_KEY", "no-key-needed"),
)
teacher = client.models.list().data[0].id
problem = {"model": teacher, "messages": [{"role": "user", "content": "3 +1 +5 +8 +2 +1"}], "temperature": 1.0}

whole = client.chat.completions.create(**problem, extra_body={"solution": "0", "best_of": 4, "return_scores": True})
print("best of 4:", whole.choices[0].message.content)
print("its score:", whole.choices[0].model_extra["rlt"]["score"])

print("streamed: ", end="")
for chunk in client.chat.completions.create(**problem, stream=True, extra_body={"solution": "0"}):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
