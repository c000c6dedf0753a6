"""OpenAI's Batch API by the stock SDK: a file of requests goes in, a file of responses comes out.

    pip install openai; python examples/batch_openai.py

RLT_URL and RLT_API_KEY say where the service is; a demo's service needs neither.
"""

import json
import os
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("RLT_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("RLT_API_KEY", "no-key-needed"),
)
lines = client.files.create(file=Path(__file__).parent / "requests.jsonl", purpose="batch")
batch = client.batches.create(input_file_id=lines.id, endpoint="/v1/explanations", completion_window="24h")
while batch.status not in ("completed", "failed", "cancelled", "expired"):
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)
    print(batch.status, batch.request_counts)

for line in client.files.content(batch.output_file_id).iter_lines():
    answer = json.loads(line)
    print(answer["custom_id"], answer["response"]["body"]["explanations"][0]["explanation"])
