"""A dataset through the openai SDK: upload problems, create, follow, export what `rlt distill` reads.

    pip install openai; python examples/dataset_openai.py

RLT_URL and RLT_API_KEY say where the service is; a demo's service needs neither.
"""

import os
import sys
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("RLT_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("RLT_API_KEY", "no-key-needed"),
)
problems = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "problems.jsonl"
out = Path(sys.argv[2] if len(sys.argv) > 2 else "explanations.jsonl")

file = client.files.create(file=problems, purpose="user_data")
asked = {"file_id": file.id, "n": 2, "score": True, "sampling": {"temperature": 1.0}, "filters": {"closed": True}}
dataset = client.post("/datasets", body=asked, cast_to=object)
while dataset["status"] not in ("completed", "failed", "cancelled"):
    time.sleep(1)
    dataset = client.get(f"/datasets/{dataset['id']}", cast_to=object)
    print(dataset["status"], dataset["counts"])

out.write_bytes(client.get(f"/datasets/{dataset['id']}/export?format=jsonl", cast_to=bytes))
print(out, "holds", len(out.read_text().splitlines()), "explanations")
