"""Generation for many callers at once: a protocol, vLLM over HTTP or started by the service, transformers."""
